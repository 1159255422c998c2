// Package offline makes a place where registries of the Internet are a registry on loopback, for test suites that pull
// images by their public names.
package offline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/loopback"
	"github.com/hachi-run/hachi/internal/testenv/registry"
)

// Place is where the process is after Enter.
type Place struct {
	// CA is a file with the certificate that clients must trust, as in SSL_CERT_FILE.
	CA string

	reg  *registry.Registry
	tmp  string
	dirs []string
}

// Enter prepares the new network and mount namespaces that the process was started in: hosts are names of a registry
// that runs in this process, and each of dirs is an empty file system in memory. Leave undoes what the machine would see
// of it.
func Enter(hosts []string, dirs ...string) (p *Place, err error) {
	p = &Place{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Leave())
		}
	}()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return p, fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return p, err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return p, fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
		p.dirs = append(p.dirs, dir)
	}
	if err := loopback.Up(); err != nil {
		return p, err
	}
	if p.tmp, err = os.MkdirTemp("", "h"); err != nil {
		return p, err
	}
	file := filepath.Join(p.tmp, "hosts")
	if err := os.WriteFile(file, []byte("127.0.0.1 localhost "+strings.Join(hosts, " ")+"\n"), 0o644); err != nil {
		return p, err
	}
	if err := unix.Mount(file, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return p, fmt.Errorf("name the registry: %w", err)
	}
	if p.reg, err = registry.Start("127.0.0.1:443", hosts...); err != nil {
		return p, err
	}
	p.CA = filepath.Join(p.tmp, "ca.pem")
	return p, p.reg.WriteCA(p.CA)
}

// Push gives the registry an image.
func (p *Place) Push(ref string, img v1.Image) error {
	r, err := name.ParseReference(ref)
	if err != nil {
		return err
	}
	transport := p.reg.Transport()
	defer transport.CloseIdleConnections()
	return remote.Write(r, img, remote.WithTransport(transport))
}

// Leave ends the registry and removes what Enter made on the machine's disk. The mounts end with their namespace.
func (p *Place) Leave() error {
	var errs []error
	if p.reg != nil {
		errs = append(errs, p.reg.Close())
	}
	for _, dir := range p.dirs {
		errs = append(errs, unmountAndRemove(dir))
	}
	if p.tmp != "" {
		errs = append(errs, os.RemoveAll(p.tmp))
	}
	return errors.Join(errs...)
}

// unmountAndRemove also removes the directory, unless the machine has something in it.
func unmountAndRemove(dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}
