package gowasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// oldest is the first Go version whose package net the overlay fits. There is no newest: a version is asked
// by looking at its sources.
const oldest = "go1.24"

// goCommand is the go command as it runs for the program: its module may choose another version.
type goCommand struct {
	path    string
	dir     string
	env     []string
	root    string // GOROOT
	version string // such as go1.26.8
}

// find finds the go command for o, and moves o.Package to the module it is in. It may leave a link in tmp.
func find(ctx context.Context, o *Options, tmp string) (*goCommand, error) {
	g := &goCommand{dir: o.Dir, env: o.Env}
	if g.env == nil {
		g.env = os.Environ()
	}
	var err error
	if g.path, err = exec.LookPath("go"); err != nil {
		return nil, fmt.Errorf("%w in PATH (install Go 1.24 to 1.26, see https://go.dev/dl)", ErrNoGo)
	}
	g.env = append(g.env[:len(g.env):len(g.env)], "GOOS=wasip1", "GOARCH=wasm")
	if dir := foreignDir(*o, g.env); dir != "" {
		g.dir, o.Package = dir, "."
	}
	if abs, err := filepath.Abs(g.dir); err == nil && g.dir != "" {
		g.env = append(g.env, "PWD="+abs)
	}
	var said, out bytes.Buffer
	if err := g.run(ctx, &out, &said, "env", "-json", "GOROOT", "GOVERSION", "GOMODCACHE"); err != nil {
		if text := strings.TrimSpace(said.String()); text != "" {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		return nil, err
	}
	var answer struct{ GOROOT, GOVERSION, GOMODCACHE string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	g.root, g.version = answer.GOROOT, answer.GOVERSION
	// A version that is no release, such as "devel", is taken as it is.
	if v, _, _ := strings.Cut(g.version, " "); version.IsValid(v) && version.Compare(version.Lang(v), oldest) < 0 {
		return nil, fmt.Errorf("%s: %w (use Go 1.24 to 1.26)", g.version, ErrUnsupported)
	}
	if strings.HasPrefix(g.root, answer.GOMODCACHE+string(filepath.Separator)) {
		return g, g.moveRoot(tmp)
	}
	return g, nil
}

// moveRoot has the go command see its own files elsewhere: since 1.25 it refuses overlays of the module cache, which
// is where it puts the versions that it downloads for itself.
func (g *goCommand) moveRoot(tmp string) error {
	link := filepath.Join(tmp, "go")
	if err := os.Symlink(g.root, link); err != nil {
		return err
	}
	g.root, g.path = link, filepath.Join(link, "bin", "go")
	g.env = append(g.env, "GOROOT="+link, "GOTOOLCHAIN=local")
	return nil
}

// foreignDir returns the directory that o.Package is, if it is in another module than the one the go command would use.
func foreignDir(o Options, env []string) string {
	if !filepath.IsAbs(o.Package) && !strings.HasPrefix(o.Package, ".") {
		return ""
	}
	for _, e := range env {
		if name, value, _ := strings.Cut(e, "="); name == "GOWORK" && value != "" && value != "off" {
			return ""
		}
	}
	here, err := filepath.Abs(o.Dir)
	if err != nil {
		return ""
	}
	dir := o.Package
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(here, dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	if above(here, "go.work") != "" {
		return ""
	}
	if root := above(dir, "go.mod"); root == "" || root == above(here, "go.mod") {
		return ""
	}
	return dir
}

// above is the nearest directory, dir or above it, with a file of that name.
func above(dir, name string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// listed is a package of the standard library.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
}

// list asks for packages as they are for wasip1.
func (g *goCommand) list(ctx context.Context, packages ...string) ([]listed, error) {
	var out, said bytes.Buffer
	err := g.run(ctx, &out, &said, append([]string{"list", "-json=ImportPath,Dir,GoFiles", "--"}, packages...)...)
	if err != nil {
		return nil, errors.Join(err, errors.New(strings.TrimSpace(said.String())))
	}
	var list []listed
	for dec := json.NewDecoder(&out); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, p)
	}
	return list, nil
}
