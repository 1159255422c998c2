package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// libraryDirs are where Debian's loader looks first.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"}

// program puts a program of this host into the machine's /bin, and its libraries where its loader looks for them.
func (a *archive) program(name string) error {
	file, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := a.copy("bin/"+name, file); err != nil {
		return err
	}
	return a.libraries(file, map[string]bool{})
}

// libraries copies what an ELF file is linked to and is not there yet.
func (a *archive) libraries(file string, there map[string]bool) error {
	f, err := elf.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var paths []string
	if loader := f.Section(".interp"); loader != nil {
		data, err := loader.Data()
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		paths = append(paths, strings.TrimRight(string(data), "\x00"))
	}
	for _, name := range needed {
		paths = append(paths, library(name))
	}
	for _, p := range paths {
		if there[p] {
			continue
		}
		there[p] = true
		a.above(p)
		if err := a.copy(strings.TrimPrefix(p, "/"), p); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := a.libraries(p, there); err != nil {
			return err
		}
	}
	return nil
}

func library(name string) string {
	for _, dir := range libraryDirs {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return filepath.Join(libraryDirs[0], name) // whose absence the copy tells
}

// above makes the folders above a file.
func (a *archive) above(file string) {
	dir := ""
	for _, part := range strings.Split(strings.Trim(path.Dir(file), "/"), "/") {
		dir = path.Join(dir, part)
		a.dir(dir)
	}
}
