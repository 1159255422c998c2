// Package conf reads and changes containerd's configuration files: the main file and what it imports.
//
// It computes new texts and writes nothing. Everything that it adds stands between two marker lines, or in a file
// of its own, so that taking it away gives the operator's text back byte for byte.
package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Files are the node's files; names are absolute and the host's.
type Files interface {
	ReadFile(name string) ([]byte, error)
	// Glob is filepath.Glob; its results are the host's names.
	Glob(pattern string) ([]string, error)
}

// Tree is the configuration as containerd loads it.
type Tree struct {
	// files are in the order of loading, the main one first.
	files []*file
}

// file is one configuration file.
type file struct {
	name string
	// text is as found; base is without what this package added.
	text, base []byte
	exists     bool
	content    struct {
		Version int            `toml:"version"`
		Imports []string       `toml:"imports"`
		Plugins map[string]any `toml:"plugins"`
	}
}

// Change is what a file shall hold.
type Change struct {
	Name string
	// Text is nil for a file that shall go.
	Text []byte
}

// maxFiles bounds what imports may reach.
const maxFiles = 200

// Read loads the main file, which may be missing, and everything that it imports, breadth first, as containerd does.
func Read(files Files, main string) (*Tree, error) {
	t := &Tree{}
	seen := map[string]bool{}
	for pending := []string{main}; len(pending) > 0; {
		name := pending[0]
		pending = pending[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		if len(seen) > maxFiles {
			return nil, fmt.Errorf("read containerd's configuration: %s: more than %d files are imported", main, maxFiles)
		}
		f, err := load(files, name)
		if err != nil {
			return nil, fmt.Errorf("read containerd's configuration: %s: %w", name, err)
		}
		if !f.exists && name != main {
			return nil, fmt.Errorf("read containerd's configuration: %s: %w (another file imports it, so containerd does not start either)", name, fs.ErrNotExist)
		}
		t.files = append(t.files, f)
		for _, pattern := range f.patterns() {
			if !strings.Contains(pattern, "*") {
				pending = append(pending, pattern)
				continue
			}
			found, err := files.Glob(pattern)
			if err != nil {
				return nil, fmt.Errorf("read containerd's configuration: %s: imports %q: %w", name, pattern, err)
			}
			pending = append(pending, found...)
		}
	}
	return t, nil
}

func load(files Files, name string) (*file, error) {
	text, err := files.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &file{name: name}, nil
	}
	if err != nil {
		return nil, err
	}
	f := &file{name: name, text: text, base: strip(text), exists: true}
	if err := toml.Unmarshal(text, &f.content); err != nil {
		return nil, explain(err)
	}
	return f, nil
}

// explain adds where a syntax error is.
func explain(err error) error {
	var at *toml.DecodeError
	if errors.As(err, &at) {
		row, column := at.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}

// patterns are the file's imports as absolute names.
func (f *file) patterns() []string {
	var out []string
	for _, p := range f.content.Imports {
		if p = path.Clean(p); !path.IsAbs(p) {
			p = path.Join(path.Dir(f.name), p)
		}
		out = append(out, p)
	}
	return out
}

// imports tells whether the file imports one of this name.
func (f *file) imports(name string) bool {
	return slices.ContainsFunc(f.patterns(), func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		return ok && err == nil
	})
}

// change is a Change if the file would differ from what it is.
func (f *file) change(text []byte) []Change {
	if f.exists && string(f.text) == string(text) || !f.exists && text == nil {
		return nil
	}
	return []Change{{f.name, text}}
}
