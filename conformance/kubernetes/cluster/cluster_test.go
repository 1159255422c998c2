package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"
)

// What containerd, kubelet and kubectl are given is at least in the language they read.
func TestManifests(t *testing.T) {
	entries, err := manifests.ReadDir("manifests")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := render(e.Name(), newValues(1))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "<no value>") {
			t.Errorf("%s: a value is missing:\n%s", e.Name(), text)
		}
		var into any
		switch filepath.Ext(e.Name()) {
		case ".toml":
			err = toml.Unmarshal(text, &into)
		case ".yaml", ".json":
			for _, part := range strings.Split(string(text), "\n---\n") {
				if err == nil {
					err = yaml.Unmarshal([]byte(part), &into)
				}
			}
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", e.Name(), err, text)
		}
	}
}

func TestCertify(t *testing.T) {
	l := Layout{t.TempDir()}
	if err := os.MkdirAll(l.State(), 0o755); err != nil {
		t.Fatal(err)
	}
	a, err := certify(l, machines(2))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for name, host := range map[string]string{"apiserver": kubernetes, "etcd": hostIP, "node2": "172.30.99.12", "controller-manager": hostIP} {
		raw, err := os.ReadFile(a.file(name + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(raw)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s for %s: %v", name, host, err)
		}
	}
	if info, err := os.Stat(l.Kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the administrator's kubeconfig: %v, %v; want it for root alone", info.Mode(), err)
	}
}
