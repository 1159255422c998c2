package cluster

import (
	"crypto/rand"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"golang.org/x/sys/unix"
)

// manifests are the node's configuration files and the cluster's own objects, as text/template.
//
//go:embed manifests
var manifests embed.FS

// values are what the templates may name.
type values struct {
	Node, NodeIP, PodCIDR, Cgroup         string
	HostIP, ServiceCIDR, ClusterPods, DNS string
	Registry, RegistryPort, Hachi         string
	RestrictOOM, AppArmor                 bool
	// CoreDNS and Metrics are image names.
	CoreDNS, Metrics, Pause string
}

func render(name string, v values) ([]byte, error) {
	t, err := template.ParseFS(manifests, "manifests/"+name)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	err = t.Execute(&text, v)
	return []byte(text.String()), err
}

func newValues(m machine) values {
	_, err := os.Stat("/sys/kernel/security/apparmor")
	return values{
		Node: m.name(), NodeIP: m.ip(), PodCIDR: m.pods(), Cgroup: m.cgroup(),
		HostIP: hostIP, ServiceCIDR: serviceCIDR, ClusterPods: podCIDR, DNS: dnsIP,
		Registry: Registry, RegistryPort: registryPort, Hachi: nodeHachi,
		RestrictOOM: !canLowerOOMScore(), AppArmor: err == nil,
		CoreDNS: coreDNSImage, Metrics: metricsImage, Pause: pauseImage,
	}
}

// configure writes what a node's programs read.
func configure(l Layout, m machine, o Options, a *authority) error {
	etc := l.State(m.name(), "root", "etc")
	v := newValues(m)
	files := map[string]string{
		"containerd.toml": "containerd/config.toml",
		"hosts.toml":      "containerd/certs.d/" + Registry + "/hosts.toml",
		"cni.json":        "cni/net.d/10-hachi.conflist",
		"kubelet.yaml":    "kubernetes/kubelet.yaml",
		"kube-proxy.yaml": "kubernetes/kube-proxy.yaml",
	}
	if o.Hachi {
		files["hachi.toml"] = "containerd/conf.d/hachi.toml"
	}
	for from, to := range files {
		text, err := render(from, v)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(etc, to), text, 0o644); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{"ca.crt": "ca.crt", m.name() + ".crt": "kubelet.crt", m.name() + ".key": "kubelet.key"} {
		raw, err := os.ReadFile(a.file(from))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(etc, "kubernetes", to), raw, 0o600); err != nil {
			return err
		}
	}
	if err := a.kubeconfig(filepath.Join(etc, "kubernetes/kubelet.kubeconfig"), m.name()); err != nil {
		return err
	}
	if err := a.kubeconfig(filepath.Join(etc, "kubernetes/kube-proxy.kubeconfig"), "proxy"); err != nil {
		return err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	plain := map[string]string{
		"hostname":    m.name() + "\n",
		"hosts":       fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", m.ip(), m.name()),
		"machine-id":  hex.EncodeToString(id) + "\n",
		"resolv.conf": "# no name server: nothing outside of this machine is ever asked\n",
	}
	for name, text := range plain {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// canLowerOOMScore tells whether a process may get a smaller oom_score_adj than it has; pause containers
// ask for -998, and virtual machines in the cloud often take the capability away.
func canLowerOOMScore() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&hdr, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
