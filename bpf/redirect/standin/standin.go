// Package standin is the least that can stand where a mesh endpoint will: it accepts, learns where the client wanted to
// go, and forwards. It proves the interface of package redirect, and shows how it is used.
package standin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// A Forwarder forwards what it accepts.
type Forwarder struct {
	// Original returns where a client wanted to go: [redirect.Redirector.OriginalDst] for connections that the pod
	// makes, [Called] for connections to the pod.
	Original func(net.Conn) (netip.AddrPort, error)
	// Dial connects there. It must be called in the pod's network namespace and must not make its socket in one of the
	// pod's cgroups, or the connection comes back.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Failed, if not nil, is told why a connection was not forwarded. It may be called concurrently.
	Failed func(error)
}

// Called is the address that a client of the pod called. The app listens there: dialling its port on 127.0.0.1 would
// publish listeners that are meant for the pod alone.
func Called(c net.Conn) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(c.LocalAddr().String())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err
}

// Serve accepts until l is closed or ctx ends, then closes every connection and returns.
func (f Forwarder) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		all.Go(func() {
			if err := f.forward(ctx, c); err != nil && f.Failed != nil {
				f.Failed(err)
			}
		})
	}
}

func (f Forwarder) forward(ctx context.Context, client net.Conn) error {
	defer client.Close()
	to, err := f.Original(client)
	if err != nil {
		return err
	}
	server, err := f.Dial(ctx, to)
	if err != nil {
		return err
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	up := make(chan error, 1)
	go func() { up <- pipe(server, client) }()
	err = errors.Join(pipe(client, server), <-up)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pipe copies one direction and ends it as it ended: half closed, or the whole connection at an error.
func pipe(to, from net.Conn) error {
	_, err := io.Copy(to, from)
	if err != nil {
		to.Close()
		from.Close()
		return err
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the other side may be gone already, which the other direction finds out
	}
	return nil
}
