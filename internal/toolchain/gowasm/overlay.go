package gowasm

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// change is what becomes of one package of the standard library. The go command is given an overlay, which
// shows it other files than are there; it is made of the installed Go's own sources for each build.
type change struct {
	pkg string
	// drop are the files with Go's network inside the process. Our files stand in for them.
	drop []string
	// add is the folder with our files.
	add string
	// rename gives functions of the package another name, under which ours, of the same name, call them.
	rename map[function]string
	// swap shows a file with the contents of another.
	swap map[string]string
}

// function names a function or, with a receiver's type, a method.
type function struct{ receiver, name string }

var changes = []change{
	{
		pkg:    "net",
		drop:   []string{"cgo_stub.go", "fd_fake.go", "fd_wasip1.go", "net_fake.go", "sockopt_fake.go", "tcpsockopt_stub.go"},
		add:    "_std/net",
		rename: map[function]string{{"conf", "hostLookupOrder"}: "goHostLookupOrder"},
	},
	{
		// The words of errors.
		pkg: "syscall",
		add: "_std/syscall",
	},
	{
		// Root certificates where a Linux program finds them, instead of nowhere.
		pkg:  "crypto/x509",
		swap: map[string]string{"root_wasm.go": "root_linux.go"},
	},
}

//go:embed _std/net/*.go _std/syscall/*.go
var std embed.FS

func changedPackages() (list []string) {
	for _, c := range changes {
		list = append(list, c.pkg)
	}
	return list
}

// overlay writes an overlay for g into dir, and returns its file.
func (g *goCommand) overlay(ctx context.Context, dir string) (string, error) {
	packages, err := g.list(ctx, changedPackages()...)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, c := range changes {
		i := slices.IndexFunc(packages, func(p listed) bool { return p.ImportPath == c.pkg })
		if i < 0 {
			return "", fmt.Errorf("%s: %w: it has no package %s", g.version, ErrUnsupported, c.pkg)
		}
		if err := c.apply(packages[i], dir, replace); err != nil {
			return "", fmt.Errorf("%s: %w: package %s: %w", g.version, ErrUnsupported, c.pkg, err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o600)
}

// apply adds to replace what becomes of p's files; new ones go to dir.
func (c change) apply(p listed, dir string, replace map[string]string) error {
	for _, name := range c.drop {
		if !slices.Contains(p.GoFiles, name) {
			return fmt.Errorf("no file %s", name)
		}
		replace[filepath.Join(p.Dir, name)] = "" // not there
	}
	for name, other := range c.swap {
		if !slices.Contains(p.GoFiles, name) {
			return fmt.Errorf("no file %s", name)
		}
		from := filepath.Join(p.Dir, other)
		if _, err := os.Stat(from); err != nil {
			return err
		}
		replace[filepath.Join(p.Dir, name)] = from
	}
	if c.add == "" {
		return nil
	}
	ours, err := c.ours()
	if err != nil {
		return err
	}
	s, err := parsePackage(p, c.drop, ours)
	if err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	for name, source := range ours {
		if replace[filepath.Join(p.Dir, name)], err = put(dir, name, source); err != nil {
			return err
		}
	}
	for f, to := range c.rename {
		name, source, err := s.rename(f, to)
		if err != nil {
			return err
		}
		if replace[filepath.Join(p.Dir, name)], err = put(dir, name, source); err != nil {
			return err
		}
	}
	return nil
}

// ours are the files to add, by name.
func (c change) ours() (map[string][]byte, error) {
	entries, err := std.ReadDir(c.add)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = std.ReadFile(path.Join(c.add, e.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func put(dir, name string, source []byte) (string, error) {
	file := filepath.Join(dir, name)
	return file, os.WriteFile(file, source, 0o600)
}
