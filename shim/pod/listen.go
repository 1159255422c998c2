package pod

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/shim/image"
)

// listenAnnotation names the TCP addresses that a guest is given listening sockets for, separated by commas:
// "8080", "127.0.0.1:8080". Without it the image's exposed TCP ports are taken; "none" is none.
const listenAnnotation = "hachi.run/listen"

// listen opens the guest's listening sockets, in the pod's network namespace.
func listen(annotations map[string]string, ports []image.Port) (_ []engine.Listener, err error) {
	wanted, err := addresses(annotations[listenAnnotation])
	if err != nil {
		return nil, err
	}
	if _, ok := annotations[listenAnnotation]; !ok {
		for _, p := range ports {
			if p.Protocol == "tcp" {
				wanted = append(wanted, net.JoinHostPort("", strconv.Itoa(int(p.Number))))
			}
		}
	}
	var listeners []engine.Listener
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	// Plain TCP: an MPTCP socket, Go's default, cannot be steered by BPF's socket maps.
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	for _, address := range wanted {
		l, err := config.Listen(context.Background(), "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen for the guest: %w (set annotation %s to other ports, or none)", err, listenAnnotation)
		}
		file, err := l.(*net.TCPListener).File()
		l.Close() // file is a duplicate
		if err != nil {
			return nil, fmt.Errorf("listen for the guest: %w", err)
		}
		_, port, _ := net.SplitHostPort(address) // addresses made it
		listeners = append(listeners, engine.Listener{Name: "tcp-" + port, File: file})
	}
	return listeners, nil
}

// addresses parses the annotation's value.
func addresses(value string) ([]string, error) {
	if value == "" || value == "none" {
		return nil, nil
	}
	var out []string
	for _, one := range strings.Split(value, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "tcp://")
		host, port, err := net.SplitHostPort(one)
		if err != nil {
			host, port = "", one
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || host != "" && net.ParseIP(host) == nil {
			return nil, fmt.Errorf("annotation %s=%q: %q is not a port or IP:port: %w", listenAnnotation, value, one, errdefs.ErrInvalidArgument)
		}
		out = append(out, net.JoinHostPort(host, port))
	}
	return out, nil
}

func closeAll(listeners []engine.Listener) {
	for _, l := range listeners {
		l.File.Close()
	}
}
