package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// writeImage makes the machine's root file system: init, the kernel's modules, the test, its arguments, and what go
// test promises a test to find in its working directory: testdata. A test for the machine is linked statically.
func writeImage(to, parts, test string, args []string) (err error) {
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
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "run", "modules", "work"} {
		a.dir(dir)
	}
	a.file("args", []byte(strings.Join(args, "\x00")))
	if err := a.copy("init", filepath.Join(parts, "init")); err != nil {
		return fmt.Errorf("%w (run make test-kernel, which builds it)", err)
	}
	if err := a.copy("test", test); err != nil {
		return err
	}
	modules, err := filepath.Glob(filepath.Join(parts, "modules", "*.ko"))
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := a.copy(path.Join("modules", filepath.Base(m)), m); err != nil {
			return err
		}
	}
	if err := a.tree("work", "testdata"); err != nil {
		return err
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

// tree copies a directory if it is there.
func (a *archive) tree(below, from string) error {
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err) && name == from:
			return nil
		case err != nil:
			return err
		case e.IsDir():
			a.dir(path.Join(below, filepath.ToSlash(name)))
			return nil
		}
		return a.copy(path.Join(below, filepath.ToSlash(name)), name)
	})
}
