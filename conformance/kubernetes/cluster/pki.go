package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs the cluster's certificates; nothing outlives the cluster, so one authority does for all.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes dir with ca.crt and ca.key in it.
func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	a := &authority{dir: dir}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: Name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	var err error
	a.cert, a.key, err = a.make("ca", template)
	return a, err
}

// issue writes name.crt and name.key: a certificate for a client (its user and groups) and, if hosts are given,
// for a server.
func (a *authority) issue(name, user string, groups []string, hosts ...string) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	_, _, err := a.make(name, template)
	return err
}

func (a *authority) make(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if err := a.write(name+".crt", "CERTIFICATE", der, 0o644); err != nil {
		return nil, nil, err
	}
	return cert, key, a.writeKey(name, key)
}

// keyPair writes name.key and name.pub, which sign and verify service accounts' tokens.
func (a *authority) keyPair(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := a.write(name+".pub", "PUBLIC KEY", der, 0o644); err != nil {
		return err
	}
	return a.writeKey(name, key)
}

func (a *authority) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return a.write(name+".key", "EC PRIVATE KEY", der, 0o600)
}

func (a *authority) write(file, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(a.file(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// kubeconfig writes a file with which the holder of name.crt speaks to the API.
func (a *authority) kubeconfig(file, name string) error {
	data := map[string]string{}
	for _, f := range []string{"ca.crt", name + ".crt", name + ".key"} {
		raw, err := os.ReadFile(a.file(f))
		if err != nil {
			return err
		}
		data[f] = base64.StdEncoding.EncodeToString(raw)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[1]s
contexts: [{name: %[1]s, context: {cluster: %[1]s, user: %[2]s}}]
clusters: [{name: %[1]s, cluster: {server: "%[3]s", certificate-authority-data: %[4]s}}]
users: [{name: %[2]s, user: {client-certificate-data: %[5]s, client-key-data: %[6]s}}]
`, Name, name, apiURL, data["ca.crt"], data[name+".crt"], data[name+".key"])
	return os.WriteFile(file, []byte(text), 0o600)
}

// certify makes everything that the control plane and the nodes prove themselves with.
func certify(l Layout, nodes []machine) (*authority, error) {
	a, err := newAuthority(l.State("pki"))
	if err != nil {
		return nil, err
	}
	masters := []string{"system:masters"}
	api := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", kubernetes, hostIP, "127.0.0.1", "localhost"}
	certs := []struct {
		name, user string
		groups     []string
		hosts      []string
	}{
		{"etcd", "etcd", nil, []string{hostIP}},
		{"apiserver", "kube-apiserver", masters, api},
		{"front-proxy", "front-proxy-client", nil, nil},
		{"admin", "admin", masters, nil},
		{"controller-manager", "system:kube-controller-manager", nil, []string{hostIP}},
		{"scheduler", "system:kube-scheduler", nil, []string{hostIP}},
		{"proxy", "system:kube-proxy", nil, nil},
	}
	for _, c := range certs {
		if err := a.issue(c.name, c.user, c.groups, c.hosts...); err != nil {
			return nil, err
		}
	}
	for _, m := range nodes {
		if err := a.issue(m.name(), "system:node:"+m.name(), []string{"system:nodes"}, m.name(), m.ip()); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"controller-manager", "scheduler"} {
		if err := a.kubeconfig(a.file(name+".kubeconfig"), name); err != nil {
			return nil, err
		}
	}
	if err := a.keyPair("sa"); err != nil {
		return nil, err
	}
	return a, a.kubeconfig(l.Kubeconfig(), "admin")
}
