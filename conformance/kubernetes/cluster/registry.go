package cluster

import (
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// serveRegistry serves images below dir, to the host on loopback and to nodes on the bridge, without TLS and to anybody
// who reaches these two addresses, until this process ends.
func serveRegistry(dir string) error {
	srv := &http.Server{
		Handler:           registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(dir))),
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
	}
	for _, ip := range []string{"127.0.0.1", hostIP} {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, registryPort))
		if err != nil {
			return err
		}
		go func() { slog.Error("the registry has ended", "address", l.Addr(), "error", srv.Serve(l)) }()
	}
	return nil
}
