// Package kube makes the few calls that the installer needs to the Kubernetes API, as the service account of its pod.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Dir is where a pod finds its service account.
const Dir = "/var/run/secrets/kubernetes.io/serviceaccount"

// Client speaks to the API server. It is safe for concurrent use; close it.
type Client struct {
	base string
	// dir holds the token, which is read for every call: it is renewed under a running pod.
	dir  string
	http *http.Client
}

// ErrOutside says that this process is not in a pod with a service account.
var ErrOutside = errors.New("not in a pod with a service account")

// InPod makes a client from what a pod is given: address in the environment, token and certificate in dir.
func InPod(dir string) (*Client, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, fmt.Errorf("find the API server: %w", ErrOutside)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w: %w", ErrOutside, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("find the API server: %s/ca.crt: no certificate in it", dir)
	}
	return &Client{
		base: "https://" + net.JoinHostPort(host, port),
		dir:  dir,
		http: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Proxy: nil},
		},
	}, nil
}

// Close closes idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Error is an answer of the API server other than success.
type Error struct {
	Code    int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

const (
	mergePatch = "application/merge-patch+json"
	// maxAnswer bounds an answer; a list of some thousand pods has a few megabytes.
	maxAnswer = 64 << 20
)

// do calls the API server; body and answer may be nil.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	token, err := os.ReadFile(filepath.Join(c.dir, "token"))
	if err != nil {
		return err
	}
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", mergePatch)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		var status struct{ Message string }
		if json.Unmarshal(raw, &status) != nil || status.Message == "" {
			status.Message = resp.Status
		}
		return &Error{resp.StatusCode, status.Message}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}
