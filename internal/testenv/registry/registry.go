// Package registry serves images over TLS on loopback.
package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Registry is a running registry; everything it holds is in memory.
type Registry struct {
	// Addr is host:port, for image names.
	Addr string

	srv  *http.Server
	done chan error
	ca   []byte
	cert tls.Certificate
}

// Start listens on addr, for example "127.0.0.1:0". Its certificate, signed by itself, is good for the given
// host names and for 127.0.0.1 and localhost.
func Start(addr string, hosts ...string) (*Registry, error) {
	r := &Registry{done: make(chan error, 1)}
	if err := r.certify(append(hosts, "localhost")); err != nil {
		return nil, fmt.Errorf("certify registry: %w", err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	r.Addr = l.Addr().String()
	r.srv = &http.Server{
		Handler:           registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{r.cert}, MinVersion: tls.VersionTLS12},
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { r.done <- r.srv.ServeTLS(l, "", "") }()
	return r, nil
}

// Close ends the registry and its connections.
func (r *Registry) Close() error {
	err := r.srv.Close()
	if served := <-r.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// WriteCA writes the certificate that clients must trust, in PEM, for example for SSL_CERT_FILE.
func (r *Registry) WriteCA(file string) error { return os.WriteFile(file, r.ca, 0o644) }

// Transport trusts this registry and nobody else.
func (r *Registry) Transport() *http.Transport {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.ca)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
}

func (r *Registry) certify(hosts []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hachi test registry"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true, DNSNames: hosts, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	r.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	r.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return nil
}
