package gowasm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fetch is for one request; nothing stays open.
func fetch(c *http.Client, url string) (string, error) {
	r, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func newClient(t *testing.T, config *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// http.ListenAndServe, with the port published and without.
func TestSlowHandlers(t *testing.T) {
	module := built(t, "plain")
	for name, published := range map[string]bool{"published": true, "own": false} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			args := []string{module, "serve", "127.0.0.1:" + port}
			if published {
				args = []string{"-p", "127.0.0.1:" + port + ":8080", module, "serve", ":8080"}
			}
			g := start(t, args...)
			_ = g.dial("127.0.0.1:" + port).Close()
			c := newClient(t, nil)
			url := "http://127.0.0.1:" + port
			if got, err := fetch(c, url+"/first"); err != nil || got != "GET /first HTTP/1.1 tls=false " {
				t.Fatalf("got %q, %v", got, err)
			}
			const n, slow = 100, 400 * time.Millisecond
			begin := time.Now()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					path := fmt.Sprintf("/%d", i)
					got, err := fetch(c, url+path+"?sleep="+slow.String())
					if err != nil || got != "GET "+path+" HTTP/1.1 tls=false " {
						t.Errorf("got %q, %v", got, err)
					}
				})
			}
			wg.Wait()
			took := time.Since(begin)
			t.Logf("%d requests to a handler of %v: %v", n, slow, took)
			if took > n*slow/4 {
				t.Errorf("%d requests took %v: one after the other", n, took)
			}
			if _, err := fetch(c, url+"/quit"); err != nil {
				t.Error(err)
			}
			g.wait()
		})
	}
}

func TestTLSServer(t *testing.T) {
	g := start(t, built(t, "plain"), "tls")
	address := g.line()
	var certificate strings.Builder
	for !strings.Contains(certificate.String(), "END") {
		certificate.WriteString(g.line() + "\n")
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(certificate.String()))
	c := newClient(t, &tls.Config{RootCAs: pool})
	for _, path := range []string{"/one", "/quit"} {
		got, err := fetch(c, "https://"+address+path)
		if want := "GET " + path + " HTTP/2.0 tls=true "; err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	c.CloseIdleConnections()
	g.wait()
}

// http.Get, by address and by name, plain and with the certificates of the guest's root.
func TestGet(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.URL.Path) })
	plain := httptest.NewServer(hello)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(hello)
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the last request's refusal
	secure.StartTLS()
	defer secure.Close()

	root := t.TempDir()
	writeFile(t, root, "etc/ssl/certs/ca-certificates.crt",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	writeFile(t, root, "etc/hosts", "127.0.0.1 example.com\n")
	byName := strings.Replace(secure.URL, "127.0.0.1", "example.com", 1) // a name in httptest's certificate
	got := start(t, "-v", root+":/:ro", built(t, "plain"), "get", plain.URL+"/a", secure.URL+"/b", byName+"/c").wait()
	want := "200 HTTP/1.1 hello /a\n200 HTTP/2.0 hello /b\n200 HTTP/2.0 hello /c\nok get\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// Without certificates it must fail, and say why.
	g := start(t, "-v", t.TempDir()+":/:ro", built(t, "plain"), "get", secure.URL)
	<-g.done
	if g.err == nil || !strings.Contains(g.stderr.String(), "certificate signed by unknown authority") {
		t.Errorf("an unknown certificate: %v, %s", g.err, &g.stderr)
	}
}
