package wasmbin

import (
	"fmt"
	"io"
	"strings"
)

// Limits of the JavaScript embedding, which every tool keeps to, and of what is read into memory.
const (
	maxEntries  = 100_000
	maxSection  = 32 << 20
	maxSections = 10_000
)

// Summary is the outside of a core module.
type Summary struct {
	Size int64 `json:"size"` // in bytes
	// WASI is the interface that the imports ask for: "preview1", "unstable", or "" for none.
	WASI     string   `json:"wasi,omitempty"`
	Imports  []Import `json:"imports,omitempty"`
	Exports  []Export `json:"exports,omitempty"`
	Memories []Memory `json:"memories,omitempty"`
	// Functions counts those defined in the module.
	Functions int `json:"functions"`
	// Start says that the module has a start function, which runs before _start.
	Start     bool       `json:"start,omitempty"`
	Producers []Producer `json:"producers,omitempty"`
	Sections  []Section  `json:"sections"`
}

// Import is something the host must provide.
type Import struct {
	Module string `json:"module"`
	Name   string `json:"name"`
	Kind   Kind   `json:"kind"`
	Type   string `json:"type,omitempty"` // "(i32, i64) -> i32" for functions
}

// Export is something the module provides.
type Export struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
}

// Kind is "func", "table", "memory", "global" or "tag".
type Kind string

var kinds = []Kind{"func", "table", "memory", "global", "tag"}

// Memory is a linear memory; sizes are in pages of 64 KiB.
type Memory struct {
	Min      uint64 `json:"min"`
	Max      uint64 `json:"max,omitempty"` // 0: no limit of its own
	Shared   bool   `json:"shared,omitempty"`
	Imported bool   `json:"imported,omitempty"`
}

// Producer is one tool that made the module, from the tool conventions' "producers" section.
type Producer struct {
	Field   string `json:"field"` // "language", "processed-by" or "sdk"
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Section is one part of the file.
type Section struct {
	Name string `json:"name"` // "code", or `custom "name"`
	Size int64  `json:"size"` // in bytes, without the header
}

var sectionNames = []string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count", "tag"}

// Read summarises a module of size bytes. It fails for anything that is not a whole core module:
// sections must fill the file exactly, so a truncated one is always found.
func Read(r io.ReaderAt, size int64) (*Summary, error) {
	head := make([]byte, min(size, HeadSize))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if form := Sniff(head); form != Module {
		if form == Future && size < HeadSize {
			return nil, fmt.Errorf("truncated: %d bytes", size)
		}
		return nil, fmt.Errorf("%s, not a module", form)
	}
	p := &parser{Summary: Summary{Size: size}}
	last := 0
	for at := int64(HeadSize); at < size; {
		var raw [6]byte
		n, err := r.ReadAt(raw[:min(6, size-at)], at)
		if err != nil && err != io.EOF {
			return nil, err
		}
		c := cursor{buf: raw[:n]}
		id, length := c.byte(), int64(c.u32())
		if c.err != nil {
			return nil, fmt.Errorf("section at byte %d: %w", at, c.err)
		}
		at += int64(c.at)
		if length > size-at {
			return nil, fmt.Errorf("truncated: section at byte %d has %d bytes, the file %d more", at, length, size-at)
		}
		if int(id) >= len(sectionNames) {
			return nil, fmt.Errorf("section at byte %d: unknown id %d", at, id)
		}
		if rank := order(id); rank > 0 {
			if rank <= last {
				return nil, fmt.Errorf("section %s: out of order or twice", sectionNames[id])
			}
			last = rank
		}
		if len(p.Sections) >= maxSections {
			return nil, fmt.Errorf("more than %d sections", maxSections)
		}
		if err := p.section(id, io.NewSectionReader(r, at, length)); err != nil {
			return nil, fmt.Errorf("section %s: %w", sectionNames[id], err)
		}
		at += length
	}
	if p.code != p.Functions {
		return nil, fmt.Errorf("%d functions are declared, %d have code", p.Functions, p.code)
	}
	return &p.Summary, nil
}

// order is a section's place in the file; custom sections have none.
func order(id byte) int {
	switch id {
	case 12: // data count stands before code
		return 2*9 + 1
	case 13: // tag stands before global
		return 2*5 + 1
	}
	return 2 * int(id)
}

// Exported says whether the module exports a function of this name.
func (s *Summary) Exported(name string) bool {
	for _, e := range s.Exports {
		if e.Name == name && e.Kind == "func" {
			return true
		}
	}
	return false
}

// Hosts lists the modules that the imports name, each once, in order of appearance.
func (s *Summary) Hosts() []string {
	var out []string
	seen := map[string]bool{}
	for _, i := range s.Imports {
		if !seen[i.Module] {
			seen[i.Module] = true
			out = append(out, i.Module)
		}
	}
	return out
}

func wasi(imports []Import) string {
	found := ""
	for _, i := range imports {
		switch {
		case strings.HasPrefix(i.Module, "wasi_snapshot_preview1"):
			return "preview1"
		case i.Module == "wasi_unstable":
			found = "unstable"
		}
	}
	return found
}
