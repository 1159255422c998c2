package clientsuite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/linux"
	"github.com/hachi-run/hachi/internal/testenv/loopback"
	"github.com/hachi-run/hachi/internal/testenv/registry"
)

// registryHost is the host that the suite's image names hold.
const registryHost = "ghcr.io"

// inside runs in new network and mount namespaces: prepares them, and runs the suite.
func inside() (err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/run/containerd-test", "/run/containerd"} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
		// The mount is this namespace's and ends with it; the directory is the machine's.
		defer func() { err = errors.Join(err, unmountAndRemove(dir)) }()
	}
	if err := loopback.Up(); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "h")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	hosts := filepath.Join(tmp, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+registryHost+"\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("name the registry: %w", err)
	}
	reg, err := registry.Start("127.0.0.1:443", registryHost)
	if err != nil {
		return err
	}
	defer reg.Close()
	if err := reg.WriteCA(filepath.Join(tmp, "ca.pem")); err != nil {
		return err
	}
	if err := fill(reg); err != nil {
		return fmt.Errorf("fill registry: %w", err)
	}
	return suite(filepath.Join(tmp, "ca.pem"))
}

func suite(ca string) error {
	bin := os.Getenv("SUITE")
	src, err := os.ReadFile(filepath.Join(filepath.Dir(bin), "source"))
	if err != nil {
		return err
	}
	cmd := exec.Command(bin, "-test.root", "-no-criu", "-test.v", "-test.timeout", "12m", "-test.run", selected)
	// It reads its testdata from where it was compiled.
	cmd.Dir = strings.TrimSpace(string(src))
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+ca)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// fill serves a busybox under the two names that the suite pulls: one layer, and several.
func fill(reg *registry.Registry) error {
	files := []linux.File{{Path: "bin/busybox", From: os.Getenv("BUSYBOX")}}
	applets, err := exec.Command(os.Getenv("BUSYBOX"), "--list").Output()
	if err != nil {
		return fmt.Errorf("list applets: %w", err)
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			files = append(files, linux.File{Path: "bin/" + applet, Link: "busybox"})
		}
	}
	one, err := linux.Image(files, v1.Config{Cmd: []string{"sh"}})
	if err != nil {
		return err
	}
	more, err := linux.Image([]linux.File{{Path: "test_dir/test_file", Data: "test_content"}}, v1.Config{})
	if err != nil {
		return err
	}
	layers, err := more.Layers()
	if err != nil {
		return err
	}
	several, err := mutate.AppendLayers(one, layers...)
	if err != nil {
		return err
	}
	transport := reg.Transport()
	defer transport.CloseIdleConnections()
	for tag, img := range map[string]v1.Image{"busybox:1.36": one, "volume-copy-up:2.2": several} {
		ref, err := name.ParseReference(registryHost + "/containerd/" + tag)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img, remote.WithTransport(transport)); err != nil {
			return err
		}
	}
	return nil
}

func unmountAndRemove(dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}
