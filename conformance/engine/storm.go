package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// result is what one storm of requests brought.
type result struct {
	answers, failed int
	took, p99       time.Duration
}

var request = []byte("GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")

// storm sends requests over that many connections, one at a time on each, for d. It opens all connections before the
// first request, and is bounded by them.
func storm(ctx context.Context, address string, connections int, d time.Duration) (result, error) {
	var (
		mu        sync.Mutex
		latencies []time.Duration
		r         result
		group     sync.WaitGroup
		begin     = make(chan struct{})
		conns     []net.Conn
		dialer    = net.Dialer{Timeout: answerTimeout}
	)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range connections {
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return result{}, err
		}
		conns = append(conns, c)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, c := range conns {
		group.Go(func() {
			<-begin
			in := bufio.NewReader(c)
			var took []time.Duration
			failed := 0
			for ctx.Err() == nil {
				at := time.Now()
				if err := exchange(c, in); err != nil {
					failed++ // a broken connection is not opened again
					break
				}
				took = append(took, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, took...)
			r.failed += failed
		})
	}
	began := time.Now()
	close(begin)
	time.AfterFunc(d, cancel)
	group.Wait()
	r.took = time.Since(began)
	r.answers = len(latencies)
	if r.answers == 0 {
		return r, fmt.Errorf("%d connections to %s: no answer", connections, address)
	}
	slices.Sort(latencies)
	r.p99 = latencies[len(latencies)*99/100]
	return r, nil
}

var lengthHeader = []byte("Content-Length: ")

// exchange sends a request and reads its answer. It knows just enough of HTTP for our own server, because the client
// shares the processors with what it measures.
func exchange(c net.Conn, in *bufio.Reader) error {
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")):
			return fmt.Errorf("answered %q", line)
		case bytes.HasPrefix(line, lengthHeader):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(lengthHeader):]))); err != nil {
				return err
			}
		case len(bytes.TrimSpace(line)) == 0:
			if length < 0 {
				return errors.New("an answer without a length")
			}
			_, err := io.CopyN(io.Discard, in, int64(length))
			return err
		}
	}
}
