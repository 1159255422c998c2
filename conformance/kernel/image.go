package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/hachi-run/hachi/internal/testenv"
)

// payload is what a machine is made of.
type payload struct {
	parts string // the folder of the kernel's modules and init
	test  string // linked statically
	args  []string
	with  []string // files and folders of the source tree, relative to its top
	host  []string // programs of this host, by name
}

// The source tree's place in the machine, and a file that says where in it the test works.
const (
	treeDir = "work"
	cwdFile = "cwd"
)

// writeImage makes the machine's root file system: init, the kernel's modules, a shell, the test, its arguments, and the
// source tree as far as a test needs it: what go test promises to be in its working directory, testdata; go.mod, by which
// tests find the top; and what was asked for.
func writeImage(to string, p payload) (err error) {
	top, err := testenv.Source()
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	cwd, err := filepath.Rel(top, here)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
	}()
	buffered := bufio.NewWriterSize(out, 1<<20)
	a := &archive{w: buffered}
	for _, dir := range []string{"bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp", "var", "var/lib"} {
		a.dir(dir)
	}
	a.file("etc/hosts", []byte("127.0.0.1 localhost\n"))
	a.file("etc/hostname", []byte("machine\n"))
	// What a kubelet reads.
	a.file("etc/machine-id", []byte("0123456789abcdef0123456789abcdef\n"))
	a.file("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\n"))
	a.file("etc/group", []byte("root:x:0:\n"))
	a.file("etc/resolv.conf", nil)
	a.file("args", []byte(strings.Join(p.args, "\x00")))
	a.file(cwdFile, []byte(path.Join("/", treeDir, filepath.ToSlash(cwd))))
	if err := a.copy("init", filepath.Join(p.parts, "init")); err != nil {
		return fmt.Errorf("%w (run make test-kernel, which builds it)", err)
	}
	if err := a.shell(); err != nil {
		return err
	}
	for _, name := range p.host {
		if err := a.program(name); err != nil {
			return err
		}
	}
	if err := a.copy("test", p.test); err != nil {
		return err
	}
	modules, err := filepath.Glob(filepath.Join(p.parts, "modules", "*.ko"))
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := a.copy(path.Join("modules", filepath.Base(m)), m); err != nil {
			return err
		}
	}
	for _, name := range append([]string{"go.mod", filepath.Join(cwd, "testdata")}, p.with...) {
		if err := a.part(top, name); err != nil {
			return err
		}
	}
	if err := a.close(); err != nil {
		return err
	}
	return buffered.Flush()
}

func (a *archive) copy(name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	a.file(name, data)
	return nil
}

// applets are the programs that tests start, of busybox.
var applets = []string{"cat", "echo", "head", "ls", "sh", "sleep", "true"}

// shell puts busybox into the machine, which is static in Debian's package.
func (a *archive) shell() error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w (apt-get install busybox-static)", err)
	}
	for _, name := range applets {
		a.link("bin/"+name, "busybox")
	}
	return a.copy("bin/busybox", busybox)
}

// part copies a file or a folder of the source tree to the same place in the machine's. What is missing there is left out:
// the test says what it misses.
func (a *archive) part(top, name string) error {
	a.above(path.Join(treeDir, filepath.ToSlash(name)))
	from := filepath.Join(top, name)
	return filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && file == from {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(top, file)
		if err != nil {
			return err
		}
		to := path.Join(treeDir, filepath.ToSlash(rel))
		if e.IsDir() {
			a.dir(to)
			return nil
		}
		return a.copy(to, file)
	})
}
