//go:build wasip1

package main

import (
	"errors"
	"net"
)

// tellOriginal is for endpoints, and those are Linux containers.
func tellOriginal(net.Conn) error { return errors.ErrUnsupported }
