// Package cni gives CRI a network to ask for: every pod gets a namespace in which loopback works.
package cni

import (
	"os"
	"path/filepath"
)

// Plugin is the plugin's source, relative to the top of the source tree.
const Plugin = "internal/testenv/cni/plugin"

// Install puts the compiled plugin and its configuration below dir; it returns both folders.
func Install(dir, plugin string) (bin, conf string, err error) {
	bin, conf = filepath.Join(dir, "cni-bin"), filepath.Join(dir, "cni-conf")
	for _, d := range []string{bin, conf} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", "", err
		}
	}
	if err := os.Symlink(plugin, filepath.Join(bin, "test")); err != nil {
		return "", "", err
	}
	// containerd 1.7 runs a plugin of the name loopback by itself.
	if err := os.Symlink("test", filepath.Join(bin, "loopback")); err != nil {
		return "", "", err
	}
	list := `{"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "test"}]}`
	return bin, conf, os.WriteFile(filepath.Join(conf, "10-test.conflist"), []byte(list), 0o644)
}
