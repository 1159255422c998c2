package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/offline"
)

// network is a bridge that the host is on, and ports of the host that lead to pods.
const network = `{
  "cniVersion": "1.0.0",
  "name": "critest",
  "plugins": [
    {"type": "bridge", "bridge": "critest0", "isGateway": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables", "snat": true}
  ]
}
`

// inside runs in new network and mount namespaces: prepares them, and runs the suite with one handler.
func inside() (err error) {
	place, err := offline.Enter(registries)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Leave()) }()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err
	}
	if err := fill(place); err != nil {
		return fmt.Errorf("fill registry: %w", err)
	}
	dir := os.Getenv("DIR")
	conf := filepath.Join(dir, "cni")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(conf, "10-critest.conflist"), fmt.Appendf(nil, network, filepath.Join(dir, "ipam")), 0o644); err != nil {
		return err
	}
	ctx := context.Background()
	d, err := daemon.Start(ctx, daemon.Options{
		Bin: os.Getenv("CONTAINERD"), Dir: dir, Env: []string{"SSL_CERT_FILE=" + place.CA}, Path: strings.Fields(os.Getenv("HACHI")),
		CRI: &daemon.CRI{PauseImage: "registry.k8s.io/pause:3.9", CNIBin: os.Getenv("CNI"), CNIConf: conf, Extra: configured},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop(), d.Remove()) }()
	cmd := exec.CommandContext(ctx, os.Getenv("CRITEST"), "--runtime-endpoint", "unix://"+d.Address, "--runtime-handler", os.Getenv("HANDLER"),
		"--ginkgo.no-color", "--ginkgo.json-report", os.Getenv("REPORT"), "--ginkgo.focus", os.Getenv("FOCUS"))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) { // which specs failed is in the report
		return err
	}
	return nil
}

const configured = `[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.hachi]
runtime_type = 'io.containerd.hachi.v1'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.hachi-sandbox]
runtime_type = 'io.containerd.hachi.v1'
sandboxer = 'shim'
`
