package main

import (
	"context"
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
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// handler answers slowly, so that requests overlap.
var handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if d, err := time.ParseDuration(r.FormValue("sleep")); err == nil {
		time.Sleep(d)
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s tls=%t %s", r.Method, r.URL.Path, r.Proto, r.TLS != nil, body)
})

// serve serves on the given address until it is asked for /quit.
func serve(args []string) error {
	quit := make(chan struct{})
	s := &http.Server{Addr: args[0]}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quit" {
			close(quit)
			return
		}
		handler(w, r)
	})
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-quit:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		return err
	}
	if err := <-ended; err != http.ErrServerClosed {
		return err
	}
	return nil
}

// serveFile accepts one request on descriptor 3 as programs for socket activation do.
func serveFile([]string) error {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || a.Port == 0 {
		return fmt.Errorf("the listener's address is %v", l.Addr())
	}
	c, err := l.Accept()
	if err != nil {
		return err
	}
	fmt.Fprintf(c, "%v %v", c.LocalAddr(), c.RemoteAddr())
	return errors.Join(c.Close(), l.Close())
}

// listenAgain listens on one port three times in turn, and never twice at once.
func listenAgain(args []string) error {
	for range 3 {
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return err
		}
		if _, err := net.Listen("tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("a second listener: %v", err)
		}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprint(c, "here")
		c.Close()
		waiting := make(chan error)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					waiting <- err
					return
				}
				c.Close()
			}
		}()
		time.Sleep(10 * time.Millisecond)
		if err := l.Close(); err != nil {
			return err
		}
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept of a closed listener: %v", err)
		}
	}
	return nil
}

func get(args []string) error {
	for _, url := range args {
		r, err := http.Get(url)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return err
		}
		fmt.Printf("%d %s %s\n", r.StatusCode, r.Proto, body)
	}
	return nil
}

// serveTLS serves HTTPS with a certificate of its own and asks itself, over HTTP/2; then it prints its address and waits for
// one request to /quit.
func serveTLS([]string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "plain"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	quit := make(chan struct{}, 1)
	s := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler(w, r)
			if r.URL.Path == "/quit" {
				quit <- struct{}{}
			}
		}),
	}
	go s.ServeTLS(l, "", "")

	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	r, err := client.Post("https://"+l.Addr().String()+"/self", "text/plain", strings.NewReader("hello"))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if want := "POST /self HTTP/2.0 tls=true hello"; err != nil || string(body) != want {
		return fmt.Errorf("got %q, %v; want %q", body, err, want)
	}
	fmt.Printf("%s\n%s", l.Addr(), certificate)
	<-quit
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.Shutdown(ctx)
}

func lookup(args []string) error {
	for _, name := range args {
		addrs, err := net.LookupHost(name)
		var e *net.DNSError
		if errors.As(err, &e) && e.IsNotFound {
			fmt.Println(name, "not found")
			continue
		}
		if err != nil {
			return err
		}
		fmt.Println(name, strings.Join(addrs, " "))
	}
	return nil
}
