package launch

import (
	"errors"
	"strings"
)

// flags are the command line, as every containerd since 1.5 writes it.
type flags struct {
	namespace string
	id        string
	address   string // containerd's gRPC socket
	bundle    string // the bundle when it is not the working directory
	debug     bool
	info      bool
	version   bool
	action    string
}

// parseFlags accepts -flag value, -flag=value and the same with two dashes, up to the first argument
// that is no flag: the action.
func parseFlags(args []string) (*flags, error) {
	f := new(flags)
	var unused string
	texts := map[string]*string{
		"namespace": &f.namespace, "id": &f.id, "address": &f.address, "bundle": &f.bundle,
		// The server publishes events itself and takes its sockets as descriptors.
		"publish-binary": &unused, "socket": &unused, "debug-socket": &unused,
	}
	switches := map[string]*bool{"debug": &f.debug, "info": &f.info, "v": &f.version, "version": &f.version}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			if arg == "--" {
				i++
			}
			if i < len(args) {
				f.action = args[i]
			}
			return f, nil
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if set, ok := switches[name]; ok {
			*set = true
			if inline {
				switch value {
				case "1", "t", "T", "true", "TRUE", "True":
				case "0", "f", "F", "false", "FALSE", "False":
					*set = false
				default:
					return nil, fail("read flags", "-"+name, errors.New("not a boolean: "+value), "")
				}
			}
			continue
		}
		set, ok := texts[name]
		if !ok {
			return nil, fail("read flags", "-"+name, errors.New("not a flag of this shim"), "")
		}
		if !inline {
			if i++; i >= len(args) {
				return nil, fail("read flags", "-"+name, errors.New("needs a value"), "")
			}
			value = args[i]
		}
		*set = value
	}
	return f, nil
}

// isIdentifier reports whether s can be the name of a container, sandbox or namespace. It is a little
// wider than containerd's own rule, which also forbids two separators in a row; what passes is safe as
// a part of a path.
func isIdentifier(s string) bool {
	if s == "" || len(s) > 76 {
		return false
	}
	alnum := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !alnum(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return alnum(s[0]) && alnum(s[len(s)-1])
}
