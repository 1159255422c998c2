package pod

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/runtime/wire"
	"github.com/hachi-run/hachi/shim/image"
)

// listenAnnotation names the TCP addresses that a guest is given listening sockets for, separated by commas:
// "8080", "127.0.0.1:8080". Without it the image's exposed TCP ports are taken; "none" is none.
const listenAnnotation = "hachi.run/listen"

// listeners are the sockets that the container's engine opens for its guest.
func listeners(annotations map[string]string, ports []image.Port) ([]wire.Listener, error) {
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
	var out []wire.Listener
	for _, address := range wanted {
		_, port, _ := net.SplitHostPort(address) // addresses made it
		out = append(out, wire.Listener{Address: address, Name: "tcp-" + port})
	}
	return out, nil
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
