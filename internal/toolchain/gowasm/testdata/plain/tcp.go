package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// pair makes a connection within the program and returns both ends.
func pair(network, address string) (client, server net.Conn, err error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		var err error
		server, err = l.Accept()
		accepted <- err
	}()
	if client, err = net.Dial(network, l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if err := <-accepted; err != nil {
		return nil, nil, err
	}
	if c, s := client.LocalAddr().String(), server.RemoteAddr().String(); c != s {
		return nil, nil, fmt.Errorf("the client is %s, the server sees %s", c, s)
	}
	if c, s := client.RemoteAddr().String(), server.LocalAddr().String(); c != s || c != l.Addr().String() {
		return nil, nil, fmt.Errorf("the server is %s, the client sees %s, the listener has %s", s, c, l.Addr())
	}
	return client, server, nil
}

// within runs f, which must end with the error want after about d.
func within(what string, d time.Duration, want error, f func() error) error {
	start := time.Now()
	err := f()
	took := time.Since(start)
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: %v, not %v", what, err, want)
	}
	if took < d-5*time.Millisecond || took > d+2*time.Second {
		return fmt.Errorf("%s: took %v, not %v", what, took, d)
	}
	return nil
}

func deadlines() error {
	client, server, err := pair("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer client.Close()
	defer server.Close()
	const d = 60 * time.Millisecond
	buf := make([]byte, 1<<20)
	client.SetReadDeadline(time.Now().Add(d))
	if err := within("read", d, os.ErrDeadlineExceeded, func() error { _, err := client.Read(buf); return err }); err != nil {
		return err
	}
	var nerr net.Error
	if _, err := client.Read(buf); !errors.As(err, &nerr) || !nerr.Timeout() {
		return fmt.Errorf("a passed deadline: %v is no timeout", err)
	}
	// Nobody reads: writing ends too.
	client.SetWriteDeadline(time.Now().Add(d))
	err = within("write", d, os.ErrDeadlineExceeded, func() error {
		for {
			if _, err := client.Write(buf); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	// A new deadline wakes nobody early and an old one is forgotten.
	server.SetDeadline(time.Now().Add(time.Hour))
	client.SetDeadline(time.Time{})
	go func() { time.Sleep(d); server.Write([]byte("late")) }()
	n, err := client.Read(buf)
	if err != nil || string(buf[:n]) != "late" {
		return fmt.Errorf("without a deadline: %q, %v", buf[:n], err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(d))
	return within("accept", d, os.ErrDeadlineExceeded, func() error { _, err := l.Accept(); return err })
}

func closes() error {
	const d = 50 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	time.AfterFunc(d, func() { l.Close() })
	if err := within("accept of a closed listener", d, net.ErrClosed, func() error { _, err := l.Accept(); return err }); err != nil {
		return err
	}
	client, server, err := pair("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	time.AfterFunc(d, func() { client.Close() })
	if err := within("read of a closed connection", d, net.ErrClosed, func() error { _, err := client.Read(make([]byte, 1)); return err }); err != nil {
		return err
	}
	if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("the other end: %d, %v, not EOF", n, err)
	}
	if err := server.Close(); err != nil {
		return err
	}
	if err := server.Close(); !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("second close: %v", err)
	}
	// A reset is told as one.
	client, server, err = pair("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Close()
	client.(*net.TCPConn).SetLinger(0)
	client.Close()
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("read of a reset connection: %v", err)
	}
	return nil
}

func halfClose() error {
	client, server, err := pair("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer client.Close()
	go func() {
		defer server.Close()
		request, _ := io.ReadAll(server)
		fmt.Fprintf(server, "%d bytes", len(request))
	}()
	fmt.Fprint(client, "question")
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if answer, err := io.ReadAll(client); err != nil || string(answer) != "8 bytes" {
		return fmt.Errorf("answer to a half-closed connection: %q, %v", answer, err)
	}
	return nil
}

// bulk sends 4 MiB each way at once.
func bulk() error {
	client, server, err := pair("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	want := sha256.Sum256(data)
	results := make(chan error, 2)
	for _, c := range []net.Conn{client, server} {
		go func() {
			_, err := c.Write(data)
			if err == nil {
				err = c.(*net.TCPConn).CloseWrite()
			}
			if err != nil {
				results <- err
			}
		}()
		go func() {
			h := sha256.New()
			if _, err := io.Copy(h, c); err != nil {
				results <- err
			} else if [32]byte(h.Sum(nil)) != want {
				results <- errors.New("other bytes than were sent")
			} else {
				results <- nil
			}
		}()
	}
	return errors.Join(<-results, <-results, client.Close(), server.Close())
}

func options() error {
	client, server, err := pair("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Close()
	c := client.(*net.TCPConn)
	return errors.Join(
		c.SetNoDelay(false), c.SetNoDelay(true),
		c.SetKeepAlive(true), c.SetKeepAlivePeriod(30*time.Second),
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 5 * time.Second, Count: 3}),
		c.SetReadBuffer(1<<16), c.SetWriteBuffer(1<<16), c.SetLinger(-1), c.SetLinger(0), c.Close(),
	)
}

func refused() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	// The same port twice is an error that says so.
	_, err = net.Listen("tcp", address)
	if err := wantOpError(err, "listen", "bind", syscall.EADDRINUSE); err != nil {
		return err
	}
	l.Close()
	_, err = net.Dial("tcp", address)
	if err := wantOpError(err, "dial", "connect", syscall.ECONNREFUSED); err != nil {
		return err
	}
	if want := "dial tcp " + address + ": connect: connection refused"; err.Error() != want {
		return fmt.Errorf("error %q, not %q", err, want)
	}
	if _, err := os.ReadFile("/no/file"); !strings.HasPrefix(err.Error(), "open /no/file: ") || strings.ToLower(err.Error()) != err.Error() {
		return fmt.Errorf("error %q", err)
	}
	_, err = (&net.Dialer{Timeout: time.Second, KeepAlive: -1}).DialContext(context.Background(), "tcp", address)
	return wantOpError(err, "dial", "connect", syscall.ECONNREFUSED)
}

func wantOpError(err error, op, call string, errno syscall.Errno) error {
	var o *net.OpError
	var s *os.SyscallError
	if !errors.As(err, &o) || !errors.As(err, &s) || !errors.Is(err, errno) || o.Op != op || s.Syscall != call {
		return fmt.Errorf("error %#v (%v), not an OpError of %s, %s, %v", err, err, op, call, errno)
	}
	return nil
}

// dialTimeout dials an address that never answers.
func dialTimeout(args []string) error {
	const d = 150 * time.Millisecond
	var nerr net.Error
	start := time.Now()
	_, err := net.DialTimeout("tcp", args[0], d)
	if !errors.As(err, &nerr) || !nerr.Timeout() || time.Since(start) < d {
		return fmt.Errorf("dial with a timeout: %v after %v", err, time.Since(start))
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(d, cancel)
	return within("cancelled dial", d, context.Canceled, func() error {
		_, err := (&net.Dialer{}).DialContext(ctx, "tcp", args[0])
		if err != nil && err.Error() == "dial tcp "+args[0]+": operation was canceled" {
			return context.Canceled
		}
		return err
	})
}

// echoServer accepts 4 connections on a port of its own, which it prints, and sends back what they say.
func echoServer() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	done := make(chan error)
	for range 4 {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, err := io.Copy(c, c)
			done <- errors.Join(err, c.Close())
		}()
	}
	return errors.Join(<-done, <-done, <-done, <-done)
}
