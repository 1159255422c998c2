package launch

import (
	"errors"
	"strconv"
)

// maxInput bounds what is read from stdin; runtime options are a few hundred bytes.
const maxInput = 16 << 20

// form is a dialect of the answer to start.
type form int

const (
	// formBare is the plain address that containerd 1.6 and 1.7 read, and that means task API v2.
	formBare form = iota
	// formJSON is what containerd 2.0 to 2.2 read.
	formJSON
	// formProto is the message BootstrapResult, containerd 2.3 and later.
	formProto
)

// shimVersion is the API that hachi-shim serves under containerd 2: containerd.task.v3.Task and the
// sandbox service. With 3, containerd does not execute the launcher for every container of a pod.
const shimVersion = 3

// mountCapabilities is attached empty: hachi takes no mount transformation off containerd's hands.
// Without it containerd would execute the launcher once more with -info to learn that.
const mountCapabilities = "type.googleapis.com/containerd.types.MountCapabilities"

// bootstrap is what containerd wants started.
type bootstrap struct {
	form         form
	id           string
	namespace    string
	address      string // containerd's gRPC socket
	ttrpcAddress string // containerd's ttrpc socket; empty means that only the environment says it
	socketDir    string // where pod sockets go; empty means defaultSocketDir
	debug        bool
}

// readBootstrap makes sense of stdin. Before 2.3 it holds the runtime options or nothing, which can
// look like a BootstrapParams by accident; so those must name the same container as the flags do.
// legacy decides between the two older answers.
func readBootstrap(f *flags, input []byte, legacy func() form) (*bootstrap, error) {
	b := &bootstrap{id: f.id, namespace: f.namespace, address: f.address, debug: f.debug}
	if p, err := parseParams(input); err == nil && p.id != "" && p.id == f.id && p.namespace == f.namespace {
		b = p
		b.form = formProto
		b.debug = b.debug || f.debug
		if b.address == "" {
			b.address = f.address
		}
	} else {
		b.form = legacy()
	}
	if !isIdentifier(b.id) {
		return nil, fail("read bootstrap", "-id "+strconv.Quote(b.id), errors.New("not an identifier"), "")
	}
	if !isIdentifier(b.namespace) {
		return nil, fail("read bootstrap", "-namespace "+strconv.Quote(b.namespace), errors.New("not an identifier"), "")
	}
	return b, nil
}

// parseParams decodes a containerd.runtime.bootstrap.v1.BootstrapParams. Extensions (the runtime
// options) are left alone: containerd repeats them in the calls to the server.
func parseParams(input []byte) (*bootstrap, error) {
	const logLevelDebug = -4 // LOG_LEVEL_DEBUG; lower means more verbose
	b := new(bootstrap)
	texts := map[uint64]*string{1: &b.id, 2: &b.namespace, 5: &b.ttrpcAddress, 6: &b.address, 9: &b.socketDir}
	err := eachField(input, func(f protoField) error {
		if text, ok := texts[f.id]; ok && f.wire == wireBytes {
			*text = string(f.bytes)
		}
		if f.id == 3 && f.wire == wireVarint {
			b.debug = int32(uint32(f.number)) <= logLevelDebug
		}
		return nil
	})
	return b, err
}

// answer is what start prints for a server listening on address.
func (f form) answer(address string) []byte {
	switch f {
	case formProto:
		extension := appendAny(nil, 1, mountCapabilities, nil)
		b := appendUint(nil, 1, shimVersion)
		b = appendString(b, 2, address)
		b = appendString(b, 3, "ttrpc")
		return appendMessage(b, 6, extension)
	case formJSON:
		return []byte(`{"version":` + strconv.Itoa(shimVersion) + `,"address":` + quoteJSON(address) + `,"protocol":"ttrpc"}`)
	default:
		return []byte(address)
	}
}

// quoteJSON quotes a path for JSON.
func quoteJSON(s string) string {
	const digits = "0123456789abcdef"
	b := []byte{'"'}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
