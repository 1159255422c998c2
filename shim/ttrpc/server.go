package ttrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/shim/status"
)

// acceptPause is before the next attempt when the machine is short of something.
const acceptPause = 10 * time.Millisecond

// Method serves one method: it decodes the request, and returns the reply.
type Method func(ctx context.Context, request []byte) (Message, error)

// Unary makes a Method of a function.
func Unary[Q any, R Message, P interface {
	*Q
	Message
}](call func(context.Context, P) (R, error)) Method {
	return func(ctx context.Context, request []byte) (Message, error) {
		q := P(new(Q))
		if err := q.UnmarshalVT(request); err != nil {
			return nil, fmt.Errorf("malformed request: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return call(ctx, q)
	}
}

// Service is the methods of a service, by their names.
type Service map[string]Method

// Interceptor stands before every method; name is "/service/method".
type Interceptor func(name string, call func() (Message, error)) (Message, error)

// Server serves calls on the connections of a listener.
type Server struct {
	intercept Interceptor
	services  map[string]Service

	mu       sync.Mutex
	closed   bool              // guarded by mu
	listener net.Listener      // guarded by mu
	conns    map[net.Conn]bool // guarded by mu
	calls    int               // guarded by mu: requests that were read and whose answers are not written
}

// NewServer returns a server without services.
func NewServer(i Interceptor) *Server {
	return &Server{intercept: i, services: make(map[string]Service), conns: make(map[net.Conn]bool)}
}

// Register adds a service under its full name, for example "containerd.task.v3.Task", before Serve.
func (s *Server) Register(name string, methods Service) { s.services[name] = methods }

// Serve serves the connections of a unix socket, which it closes at its end, until Close; then its error is nil. Only
// processes of this process's own user and group are served. ctx is that of the calls; it does not end Serve.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	s.listener = l
	closed := s.closed
	s.mu.Unlock()
	for !closed {
		conn, err := l.Accept()
		s.mu.Lock()
		if closed = s.closed; err == nil && !closed {
			s.conns[conn] = true
		}
		s.mu.Unlock()
		switch {
		case closed && err == nil:
			_ = conn.Close()
		case closed:
		case err == nil:
			go s.serve(ctx, conn)
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ECONNABORTED):
			slog.Warn("cannot accept a connection", "error", err)
			time.Sleep(acceptPause)
		default:
			return fmt.Errorf("accept connections: %w", err)
		}
	}
	return nil
}

// Drain waits until all requests that came are answered, or for patience, and then until the callers have closed their
// connections, or for linger. containerd's client may lose an answer that comes with the end of its connection.
func (s *Server) Drain(patience, linger time.Duration) {
	s.await(patience, func() bool { return s.calls == 0 })
	s.await(linger, func() bool { return len(s.conns) == 0 })
}

// await calls done, with s.mu held, until it is true or the time is over.
func (s *Server) await(limit time.Duration, done func() bool) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ok := done()
		s.mu.Unlock()
		if ok {
			return
		}
	}
}

// Close closes the listener and all connections, whose calls' contexts end with them. It does not wait for the calls.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	if s.listener != nil {
		errs = append(errs, s.listener.Close())
	}
	for conn := range s.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// serve serves one connection until its end.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		_ = conn.Close() // Close may have been first
	}()
	if err := sameUser(conn); err != nil {
		slog.Error("refused a connection", "error", err)
		return
	}
	l, last := newLink(conn), uint32(0)
	for {
		f, err := l.recv()
		switch {
		case errors.Is(err, errTooLarge):
			s.answer(l, f.stream, nil, status.Errorf(status.ResourceExhausted, "%v", err))
			continue
		case err != nil:
			return
		}
		switch {
		case f.kind == kindData:
			err = errors.New("no method takes a stream of messages")
		case f.kind != kindRequest: // later versions may have other kinds
			continue
		case f.stream%2 != 1:
			err = fmt.Errorf("stream %d is even, which is a server's", f.stream)
		case f.stream <= last:
			err = fmt.Errorf("stream %d does not come after %d", f.stream, last)
		}
		if err != nil {
			s.answer(l, f.stream, nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
			continue
		}
		last = f.stream
		s.begin()
		go func() {
			defer s.end()
			reply, err := s.call(ctx, f.body)
			s.answer(l, f.stream, reply, err)
		}()
	}
}

func (s *Server) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
}

// call serves one request.
func (s *Server) call(ctx context.Context, body []byte) (Message, error) {
	r := new(Request)
	if err := r.UnmarshalVT(body); err != nil {
		return nil, fmt.Errorf("malformed request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	method := s.services[r.Service][r.Method]
	if method == nil {
		return nil, fmt.Errorf("service %s has no method %s here: %w", r.Service, r.Method, errdefs.ErrNotImplemented)
	}
	if r.TimeoutNano > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.TimeoutNano))
		defer cancel()
	}
	return s.intercept("/"+r.Service+"/"+r.Method, func() (Message, error) { return method(ctx, r.Payload) })
}

// answer writes a reply, or an error in place of one.
func (s *Server) answer(l *link, stream uint32, reply Message, err error) {
	r := &Response{Status: encode(err)}
	if err == nil {
		if r.Payload, err = reply.MarshalVT(); err != nil {
			r.Status = encode(err)
		}
	}
	err = l.send(stream, kindResponse, r)
	if errors.Is(err, errdefs.ErrResourceExhausted) {
		err = l.send(stream, kindResponse, &Response{Status: encode(err)})
	}
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.EPIPE) {
		slog.Error("cannot answer a call", "error", err)
	}
}

// sameUser refuses a peer that was another user, or in another group, when it connected.
func sameUser(conn net.Conn) error {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%s is no unix socket", conn.LocalAddr().Network())
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("who connects: %w", failed)
	}
	if int(peer.Uid) != os.Geteuid() || int(peer.Gid) != os.Getegid() {
		return fmt.Errorf("user %d, group %d: %w", peer.Uid, peer.Gid, unix.EPERM)
	}
	return nil
}
