package clientsuite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/hachi-run/hachi/internal/testenv/linux"
	"github.com/hachi-run/hachi/internal/testenv/offline"
)

// registryHost is the host that the suite's image names hold.
const registryHost = "ghcr.io"

// inside runs in new network and mount namespaces: prepares them, and runs the suite.
func inside() (err error) {
	place, err := offline.Enter([]string{registryHost}, "/run/containerd-test", "/run/containerd")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Leave()) }()
	if err := fill(place); err != nil {
		return fmt.Errorf("fill registry: %w", err)
	}
	return suite(place.CA)
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
func fill(place *offline.Place) error {
	files, err := linux.Busybox()
	if err != nil {
		return err
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
	for tag, img := range map[string]v1.Image{"busybox:1.36": one, "volume-copy-up:2.2": several} {
		if err := place.Push(registryHost+"/containerd/"+tag, img); err != nil {
			return err
		}
	}
	return nil
}
