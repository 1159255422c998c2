package sandbox

import (
	"fmt"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hachi-run/hachi/shim/message"
)

// Config is what of CRI's PodSandboxConfig concerns the sandbox itself (k8s.io/cri-api
// pkg/apis/runtime/v1/api.proto). The message is read field by field: its Go package would cost every idle pod
// some hundred kilobytes.
type Config struct {
	Hostname     string
	CgroupParent string
	Sysctls      map[string]string
	// Servers, Searches and DNSOptions are the lines of the pod's resolv.conf; none of them means the node's file.
	Servers, Searches, DNSOptions []string
	// HostNetwork and HostIPC tell that the pod shares the node's namespaces.
	HostNetwork, HostIPC bool
}

// configURL is the message's name in an Any.
const configURL = "runtime.v1.PodSandboxConfig"

// namespaceNode is CRI's NamespaceMode NODE.
const namespaceNode = 2

// ParseConfig reads the options of CreateSandbox; none give an empty Config. Errors are InvalidArgument.
func ParseConfig(options *anypb.Any) (Config, error) {
	var c Config
	if options.GetTypeUrl() == "" {
		return c, nil
	}
	if options.TypeUrl != configURL && options.TypeUrl != "type.googleapis.com/"+configURL {
		return c, fmt.Errorf("sandbox options: %s instead of %s: %w", options.TypeUrl, configURL, errdefs.ErrInvalidArgument)
	}
	if err := c.parse(options.Value); err != nil {
		return c, fmt.Errorf("sandbox options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func (c *Config) parse(b []byte) error {
	return message.Fields(b, func(n protowire.Number, v []byte, _ uint64) error {
		switch n {
		case 2: // hostname
			c.Hostname = string(v)
		case 4: // dns_config
			return message.Fields(v, c.dns)
		case 8: // linux
			return message.Fields(v, c.linux)
		}
		return nil
	})
}

func (c *Config) dns(n protowire.Number, v []byte, _ uint64) error {
	switch n {
	case 1: // servers
		c.Servers = append(c.Servers, string(v))
	case 2: // searches
		c.Searches = append(c.Searches, string(v))
	case 3: // options
		c.DNSOptions = append(c.DNSOptions, string(v))
	}
	return nil
}

func (c *Config) linux(n protowire.Number, v []byte, _ uint64) error {
	switch n {
	case 1: // cgroup_parent
		c.CgroupParent = string(v)
	case 2: // security_context
		return message.Fields(v, func(n protowire.Number, v []byte, _ uint64) error {
			if n == 1 { // namespace_options
				return message.Fields(v, c.namespaces)
			}
			return nil
		})
	case 3: // sysctls
		return c.sysctl(v)
	}
	return nil
}

func (c *Config) namespaces(n protowire.Number, _ []byte, v uint64) error {
	switch n {
	case 1: // network
		c.HostNetwork = v == namespaceNode
	case 3: // ipc
		c.HostIPC = v == namespaceNode
	}
	return nil
}

func (c *Config) sysctl(entry []byte) error {
	var key, value string
	err := message.Fields(entry, func(n protowire.Number, v []byte, _ uint64) error {
		switch n {
		case 1:
			key = string(v)
		case 2:
			value = string(v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.Sysctls == nil {
		c.Sysctls = make(map[string]string)
	}
	c.Sysctls[key] = value
	return nil
}
