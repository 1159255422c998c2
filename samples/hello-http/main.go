// Command hello-http is a web service as a Wasm guest: Go's net/http, compiled with GOOS=wasip1.
//
// The runtime listens on its behalf and hands the socket in as descriptor 3, the way systemd does it: LISTEN_FDS
// says how many there are. Compiled for Linux it serves on port 8080 when nobody hands one in.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// firstFD is the first descriptor handed in; sd_listen_fds(3).
const firstFD = 3

func main() { os.Exit(run()) }

func run() int {
	l, err := listener()
	if err != nil {
		fmt.Fprintf(os.Stderr, "hello-http: %v\n", err)
		return 1
	}
	fmt.Printf("hello-http: serving (%s/%s)\n", runtime.GOOS, runtime.GOARCH)
	srv := &http.Server{Handler: routes(), ReadHeaderTimeout: 10 * time.Second}
	if err := srv.Serve(l); err != nil {
		fmt.Fprintf(os.Stderr, "hello-http: serve: %v\n", err)
		return 1
	}
	return 0
}

func listener() (net.Listener, error) {
	if n := os.Getenv("LISTEN_FDS"); n == "" || n == "0" {
		if runtime.GOOS != "wasip1" {
			return net.Listen("tcp", ":8080")
		}
		// Go's own net package would listen inside the guest's memory, where nobody calls.
		return nil, errors.New("nobody handed in a listening socket: LISTEN_FDS is not set (hachi run -p 8080 hello-http.wasm, or an image built with --port 8080)")
	}
	l, err := net.FileListener(os.NewFile(firstFD, "socket"))
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no listening socket: %w", firstFD, err)
	}
	return l, nil
}

func routes() http.Handler {
	var served atomic.Int64
	started := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		if name == "" {
			name = "world"
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Hello, %s, from a Wasm guest (%s/%s). Request %d.\n", name, runtime.GOOS, runtime.GOARCH, served.Add(1))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "ok", "uptime_ms": time.Since(started).Milliseconds()})
	})
	return mux
}
