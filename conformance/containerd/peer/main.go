// Command peer is the program whose traffic the cases count: it answers and makes calls of known size. It is compiled
// for Linux and, with a network, for WASI.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// run does what args say: `serve ADDRESS` sends back what it gets; `call ADDRESS BYTES TIMES` makes so many connections, one
// after the other, and gets back as many bytes as it sends on each. A last word `stay` keeps the program there. `intercept ADDRESS` is serve, and says of each
// connection where it wanted to go.
func run(args []string) error {
	// With an image entrypoint the program's own name may stand first.
	for len(args) > 0 && args[0] != "serve" && args[0] != "call" && args[0] != "intercept" {
		args = args[1:]
	}
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1], func(net.Conn) error { return nil })
	case len(args) == 2 && args[0] == "intercept":
		return serve(args[1], tellOriginal)
	case len(args) >= 4 && args[0] == "call":
		size, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		times, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		for range times {
			if err := call(args[1], size); err != nil {
				return err
			}
		}
		fmt.Println("called")
		if len(args) > 4 {
			time.Sleep(time.Hour)
		}
		return nil
	}
	return errors.New("usage: peer serve ADDRESS | intercept ADDRESS | call ADDRESS BYTES TIMES [stay]")
}

func serve(address string, meet func(net.Conn) error) error {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if err := meet(c); err != nil {
				fmt.Fprintln(os.Stderr, "peer:", err)
				return
			}
			_, _ = io.Copy(c, c)
		}()
	}
}

// call closes after the other side has, so that no part of the conversation is left to nobody's account: the kernel
// ends the connection of the side that closes first without its socket.
func call(address string, size int) error {
	c, err := net.Dial("tcp4", address)
	for until := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(until); c, err = net.Dial("tcp4", address) {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if peer := c.RemoteAddr().String(); peer != address {
		return fmt.Errorf("connected to %s, asked for %s", peer, address)
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c)
	if err == nil && n != int64(size) {
		err = fmt.Errorf("%d bytes came back of %d", n, size)
	}
	return err
}
