package launch

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
)

// maxSpec bounds config.json; Kubernetes keeps a pod's whole definition below 1.5 MiB.
const maxSpec = 16 << 20

// sandboxAnnotation is how CRI names the pod of a container, the pod's sandbox container included.
const sandboxAnnotation = "io.kubernetes.cri.sandbox-id"

// spec is the part of an OCI runtime spec (config.json) that decides where a server runs.
type spec struct {
	sandbox string // value of sandboxAnnotation; empty for a lone container
	spaces  []namespace
}

// namespace is an entry of linux.namespaces.
type namespace struct {
	kind string
	path string // empty means a new one
}

// readSpec reads the config.json of a bundle; a bundle without one, as `sandboxer = "shim"` makes them,
// gives nil.
func readSpec(bundle string) (*spec, error) {
	path := inBundle(bundle, "config.json")
	b, err := readFile(path, maxSpec)
	if errors.Is(err, syscall.ENOENT) {
		return nil, nil
	}
	if err == nil {
		var s *spec
		if s, err = parseSpec(b); err == nil {
			return s, nil
		}
	}
	return nil, fail("read spec", path, err, "")
}

func parseSpec(b []byte) (*spec, error) {
	s := new(spec)
	r := &jsonReader{b: b}
	err := r.object(func(key string) error {
		switch key {
		case "annotations":
			return r.object(func(key string) error {
				if key != sandboxAnnotation {
					return r.skip()
				}
				return r.textTo(&s.sandbox)
			})
		case "linux":
			return r.object(func(key string) error {
				if key != "namespaces" {
					return r.skip()
				}
				s.spaces = nil
				return r.array(func() error { return s.readNamespace(r) })
			})
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	return s, err
}

func (s *spec) readNamespace(r *jsonReader) error {
	var n namespace
	err := r.object(func(key string) error {
		switch key {
		case "type":
			return r.textTo(&n.kind)
		case "path":
			return r.textTo(&n.path)
		}
		return r.skip()
	})
	s.spaces = append(s.spaces, n)
	return err
}

// textTo consumes a string or a null, which changes nothing.
func (r *jsonReader) textTo(s *string) error {
	if r.null() {
		return nil
	}
	text, err := r.text()
	if err == nil {
		*s = text
	}
	return err
}

// group is the pod that a container belongs to, and with it the server: its sandbox, or a lone container
// alone. It is the one place that decides this.
func group(id string, s *spec) (string, error) {
	if s == nil || s.sandbox == "" {
		return id, nil
	}
	if !isIdentifier(s.sandbox) {
		return "", fail("find the pod of "+id, "annotation "+sandboxAnnotation+"="+strconv.Quote(s.sandbox), errors.New("not an identifier"), "")
	}
	return s.sandbox, nil
}

// inBundle joins a bundle's path, which is empty for the working directory, and a name.
func inBundle(bundle, name string) string {
	if bundle == "" {
		return name
	}
	return bundle + "/" + name
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unwrapPath(err)
	}
	defer f.Close()
	return readAll(f, limit)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("larger than " + strconv.FormatInt(limit, 10) + " bytes")
	}
	return b, unwrapPath(err)
}

// unwrapPath drops the operation and path that os adds, because the messages here name them.
func unwrapPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
