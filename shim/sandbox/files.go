package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The files of a pod that its containers share. containerd's own sandboxes make them; under the sandbox service they
// are the shim's to make.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
	nameFile   = "/etc/hostname"
)

// writeFiles makes the pod's files in the sandbox's bundle, with which they go. A pod without DNS settings of its own
// has the node's.
func writeFiles(bundle string, c Config) ([]specs.Mount, error) {
	if bundle == "" {
		return nil, nil
	}
	var mounts []specs.Mount
	for _, f := range []struct {
		path    string
		content func() ([]byte, error)
	}{
		{resolvConf, c.resolver},
		{hostsFile, func() ([]byte, error) { return nodeFile(hostsFile) }},
		{nameFile, c.hostname},
	} {
		content, err := f.content()
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", f.path, err)
		}
		name := filepath.Join(bundle, filepath.Base(f.path))
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return nil, fmt.Errorf("make %s: %w", f.path, err)
		}
		mounts = append(mounts, specs.Mount{Destination: f.path, Type: "bind", Source: name, Options: []string{"rbind", "rprivate", "rw"}})
	}
	return append(mounts, specs.Mount{
		Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"},
	}), nil
}

// resolver is the content of resolv.conf(5).
func (c Config) resolver() ([]byte, error) {
	if len(c.Servers)+len(c.Searches)+len(c.DNSOptions) == 0 {
		return nodeFile(resolvConf)
	}
	var b strings.Builder
	if len(c.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.Searches, " "))
	}
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(c.DNSOptions) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.DNSOptions, " "))
	}
	return []byte(b.String()), nil
}

// hostname is the content of hostname(5).
func (c Config) hostname() ([]byte, error) {
	name := c.Hostname
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	return []byte(name + "\n"), nil
}

// nodeFile is a file of the node; one that is missing is empty.
func nodeFile(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}
