package sandbox

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/shim/taskpb"
)

// Config is what of CRI's PodSandboxConfig concerns the sandbox itself.
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

// ParseConfig reads the options of CreateSandbox; none give an empty Config. Errors are InvalidArgument.
func ParseConfig(options *taskpb.Any) (Config, error) {
	var c Config
	if options.GetTypeUrl() == "" {
		return c, nil
	}
	if options.TypeUrl != configURL && options.TypeUrl != "type.googleapis.com/"+configURL {
		return c, fmt.Errorf("sandbox options: %s instead of %s: %w", options.TypeUrl, configURL, errdefs.ErrInvalidArgument)
	}
	m := new(taskpb.PodSandboxConfig)
	if err := m.UnmarshalVT(options.Value); err != nil {
		return c, fmt.Errorf("sandbox options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	dns, linux := m.GetDnsConfig(), m.GetLinux()
	namespaces := linux.GetSecurityContext().GetNamespaceOptions()
	return Config{
		Hostname: m.Hostname, CgroupParent: linux.GetCgroupParent(), Sysctls: linux.GetSysctls(),
		Servers: dns.GetServers(), Searches: dns.GetSearches(), DNSOptions: dns.GetOptions(),
		HostNetwork: namespaces.GetNetwork() == taskpb.NamespaceMode_NODE, HostIPC: namespaces.GetIpc() == taskpb.NamespaceMode_NODE,
	}, nil
}
