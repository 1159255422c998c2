package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"time"
)

// kinds of traffic, and how many operations a round has; of bulk, MiB.
var kinds = []struct {
	name, unit string
	times      int
}{
	{"connect", "us", 300},
	{"pingpong", "us", 4000},
	{"bulk", "MB/s", 256},
}

// measure has the client do one round.
func (s *side) measure(kind string, times int) (v float64, err error) {
	if _, err := fmt.Fprintln(s.orders, kind, times, s.to); err != nil {
		return 0, err
	}
	line, err := s.said.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("client: %w", err)
	}
	if _, err := fmt.Sscan(line, &v); err != nil {
		return 0, fmt.Errorf("client: %s", strings.TrimSpace(line))
	}
	return v, nil
}

// client answers orders, lines of kind, number and address, with a number each.
func client(in io.Reader, out io.Writer) error {
	orders := bufio.NewScanner(in)
	for orders.Scan() {
		var kind, to string
		var times int
		if _, err := fmt.Sscan(orders.Text(), &kind, &times, &to); err != nil {
			return err
		}
		measure := map[string]func(string, int) (float64, error){"connect": connects, "pingpong": pingpong, "bulk": bulk}[kind]
		if measure == nil {
			return fmt.Errorf("order %q not known", kind)
		}
		v, err := measure(to, times)
		if err != nil {
			_, err = fmt.Fprintln(out, err)
		} else {
			_, err = fmt.Fprintln(out, v)
		}
		if err != nil {
			return err
		}
	}
	return orders.Err()
}

// connects returns the median time of connect, request, reply and close in microseconds.
func connects(to string, times int) (float64, error) {
	return median(times, func() error {
		c, err := net.Dial("tcp", to)
		if err != nil {
			return err
		}
		return errors.Join(ask(c, to), c.Close())
	})
}

// pingpong returns the median time of a request and its reply on one connection, in microseconds.
func pingpong(to string, times int) (float64, error) {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return median(times, func() error { return ask(c, to) })
}

func median(times int, op func() error) (float64, error) {
	took := make([]float64, times)
	for i := range took {
		start := time.Now()
		if err := op(); err != nil {
			return 0, err
		}
		took[i] = float64(time.Since(start).Nanoseconds()) / 1e3
	}
	sort.Float64s(took)
	return took[len(took)/2], nil
}

var (
	request = bytes.Repeat([]byte{'?'}, size)
	reply   = make([]byte, size)
)

// ask sends a request, and sees from the reply that the endpoint knows the way.
func ask(c net.Conn, to string) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, reply); err != nil {
		return err
	}
	if !bytes.HasPrefix(reply, []byte(to)) || reply[len(to)] != 0 {
		return fmt.Errorf("the endpoint answered for %q instead of %s", reply, to)
	}
	return nil
}

// bulk sends MiB and waits until all has arrived; it returns MB/s.
func bulk(to string, times int) (float64, error) {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	chunk := make([]byte, 1<<20)
	start := time.Now()
	for range times {
		if _, err := c.Write(chunk); err != nil {
			return 0, err
		}
	}
	if err := ask(c, to); err != nil {
		return 0, err
	}
	return float64(times) * (1 << 20) / 1e6 / time.Since(start).Seconds(), nil
}
