package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Limits on what is read from an image. Real ones stay far below; containerd itself refuses manifests
// above 8 MiB.
const (
	// MaxDocument is for a manifest, an index or a config, in bytes.
	MaxDocument = 4 << 20
	// MaxModule is for a Wasm module, in bytes.
	MaxModule = 1 << 30
	// MaxIndex is for the entries of an index.
	MaxIndex   = 512
	maxLayers  = 512
	maxNesting = 32
)

// decode is json.Unmarshal for documents that a stranger wrote.
func decode(raw []byte, v any) error {
	if len(raw) > MaxDocument {
		return fmt.Errorf("%d bytes exceed %d", len(raw), MaxDocument)
	}
	if nesting(raw) > maxNesting {
		return fmt.Errorf("nested deeper than %d", maxNesting)
	}
	return json.Unmarshal(raw, v)
}

// nesting is the depth of objects and arrays, counted without recursion.
func nesting(raw []byte) int {
	depth, deepest, quoted := 0, 0, false
	for k := 0; k < len(raw); k++ {
		switch c := raw[k]; {
		case quoted && c == '\\':
			k++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// shape catches a document that is read as a manifest by one and as an index by another
// (CVE-2021-41190); containerd makes the same checks.
type shape struct {
	MediaType string          `json:"mediaType"`
	Config    json.RawMessage `json:"config"`
	Layers    json.RawMessage `json:"layers"`
	Manifests json.RawMessage `json:"manifests"`
	FSLayers  json.RawMessage `json:"fsLayers"`
}

// ParseManifest reads an OCI or Docker image manifest.
func ParseManifest(raw []byte) (*Manifest, error) {
	var s shape
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	switch {
	case s.FSLayers != nil:
		return nil, errors.New("schema 1 is not supported (push the image again with a current tool)")
	case s.Manifests != nil || IsIndex(s.MediaType):
		return nil, errors.New("expected a manifest, found an index")
	}
	m := new(Manifest)
	if err := decode(raw, m); err != nil {
		return nil, err
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%d layers exceed %d", len(m.Layers), maxLayers)
	}
	for _, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if err := CheckDescriptor(d); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// ParseIndex reads an OCI index or Docker manifest list.
func ParseIndex(raw []byte) (*Index, error) {
	var s shape
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	if s.Config != nil || s.Layers != nil || s.FSLayers != nil || IsManifest(s.MediaType) {
		return nil, errors.New("expected an index, found a manifest")
	}
	x := new(Index)
	if err := decode(raw, x); err != nil {
		return nil, err
	}
	if len(x.Manifests) > MaxIndex {
		return nil, fmt.Errorf("%d manifests exceed %d", len(x.Manifests), MaxIndex)
	}
	for _, d := range x.Manifests {
		if err := CheckDescriptor(d); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// ParseConfig reads an image config. Of JSON that is something else it gives what happens to look alike.
func ParseConfig(raw []byte) (*Image, error) {
	c := new(Image)
	if err := decode(raw, c); err != nil {
		return nil, err
	}
	return c, nil
}

// CheckDescriptor proves that a descriptor that a stranger wrote has a possible size and digest.
func CheckDescriptor(d Descriptor) error {
	if d.Size < 0 {
		return fmt.Errorf("descriptor %.80q: size %d", d.Digest, d.Size)
	}
	_, _, err := ParseDigest(d.Digest)
	return err
}

// Port is one entry of an image's ExposedPorts.
type Port struct {
	Number   uint16 `json:"number"`
	Protocol string `json:"protocol"` // "tcp", "udp" or "sctp"
}

// String returns the form of the config, for example "8080/tcp".
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }

// Ports reads a config's ExposedPorts: "80", "80/tcp" or "8000-8010/udp", in order.
func Ports(exposed map[string]struct{}) ([]Port, error) {
	var out []Port
	for entry := range exposed {
		span, protocol, ok := strings.Cut(strings.ToLower(entry), "/")
		if !ok {
			protocol = "tcp"
		}
		low, high, ok := strings.Cut(span, "-")
		if !ok {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 16)
		last, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || first == 0 || last < first ||
			(protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
			return nil, fmt.Errorf("exposed port %.40q: want a form like 8080/tcp", entry)
		}
		if len(out)+int(last-first) >= 1<<16 {
			return nil, errors.New("exposed ports: more than 65535")
		}
		for n := first; n <= last; n++ {
			out = append(out, Port{Number: uint16(n), Protocol: protocol})
		}
	}
	sort.Slice(out, func(a, b int) bool {
		if out[a].Number != out[b].Number {
			return out[a].Number < out[b].Number
		}
		return out[a].Protocol < out[b].Protocol
	})
	return out, nil
}
