// Command registry is an image registry for tests, in memory, as a process of its own: HTTP, or TLS with
// a given certificate; open, or for one user.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run serves until SIGTERM or SIGINT. Its first line of output is the address.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("registry", flag.ContinueOnError)
	flags.SetOutput(stderr)
	address := flags.String("listen", "127.0.0.1:0", "address to listen on")
	cert := flags.String("cert", "", "TLS certificate, PEM")
	key := flags.String("key", "", "its key, PEM")
	user := flags.String("user", "", "NAME:PASSWORD that every request must bring")
	if err := flags.Parse(args); err != nil {
		return 64
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx, *address, *cert, *key, *user, stdout); err != nil {
		fmt.Fprintln(stderr, "registry:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, address, cert, key, user string, stdout io.Writer) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           guarded(registry.New(registry.Logger(log.New(io.Discard, "", 0))), user),
		ReadHeaderTimeout: 10 * time.Second,
	}
	done := make(chan error, 1)
	go func() {
		if cert != "" {
			done <- server.ServeTLS(l, cert, key)
			return
		}
		done <- server.Serve(l)
	}()
	fmt.Fprintln(stdout, l.Addr())
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	err = server.Close()
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// guarded asks for basic credentials.
func guarded(next http.Handler, user string) http.Handler {
	if user == "" {
		return next
	}
	name, password, _ := strings.Cut(user, ":")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, p, ok := r.BasicAuth()
		if !ok || subtle.ConstantTimeCompare([]byte(n+":"+p), []byte(name+":"+password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
