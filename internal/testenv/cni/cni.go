// Package cni gives CRI a network to ask for: every pod gets a namespace in which loopback works.
package cni

import (
	"os"
	"path/filepath"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

// Install compiles the plugin and puts it and its configuration below dir; it returns both folders.
func Install(dir string) (bin, conf string, err error) {
	top, err := testenv.Source()
	if err != nil {
		return "", "", err
	}
	bin, conf = filepath.Join(dir, "cni-bin"), filepath.Join(dir, "cni-conf")
	for _, d := range []string{bin, conf} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", "", err
		}
	}
	if err := guest.Go(guest.Linux, filepath.Join(top, "internal/testenv/cni/plugin"), filepath.Join(bin, "test")); err != nil {
		return "", "", err
	}
	// containerd 1.7 runs a plugin of the name loopback by itself.
	if err := os.Symlink("test", filepath.Join(bin, "loopback")); err != nil {
		return "", "", err
	}
	list := `{"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "test"}]}`
	return bin, conf, os.WriteFile(filepath.Join(conf, "10-test.conflist"), []byte(list), 0o644)
}
