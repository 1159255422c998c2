package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// The modules that tests use; what they depend on comes along. Everything else is built into the cloud kernel.
var wanted = []string{"veth", "sch_netem", "overlay"}

// The package that brings the newest build of the oldest kernel there is.
const metaPackage = "linux-image-cloud-amd64"

var image61 = regexp.MustCompile(`Depends: (linux-image-6\.1\.\S+)`)

// fetch puts vmlinuz and modules/NN-name.ko, in the order of loading, into dir.
func fetch(ctx context.Context, dir string) (err error) {
	tmp, err := os.MkdirTemp("", "hachi-kernel-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if err := download(ctx, tmp); err != nil {
		// The package lists are missing, or older than the archive.
		if updateErr := say(ctx, tmp, "apt-get", "update", "-q"); updateErr != nil {
			return errors.Join(err, updateErr)
		}
		if err := download(ctx, tmp); err != nil {
			return err
		}
	}
	deb, err := only(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	if err := say(ctx, tmp, "dpkg-deb", "-x", deb, tmp); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "modules")); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "modules"), 0o755); err != nil {
		return err
	}
	modules, err := inOrder(filepath.Join(tmp, "lib", "modules"), wanted)
	if err != nil {
		return err
	}
	for i, from := range modules {
		if err := move(from, filepath.Join(dir, "modules", fmt.Sprintf("%02d-%s", i, filepath.Base(from)))); err != nil {
			return err
		}
	}
	// Last, for make takes it as the mark of a whole fetch.
	kernel, err := only(filepath.Join(tmp, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	return move(kernel, filepath.Join(dir, "vmlinuz"))
}

// only returns the one file of a pattern.
func only(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s: %d files, want one", pattern, len(found))
	}
	return found[0], nil
}

func download(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", metaPackage).Output()
	if err != nil {
		return fmt.Errorf("apt-cache depends %s: %w (needs Debian 12)", metaPackage, err)
	}
	found := image61.FindSubmatch(out)
	if found == nil {
		return fmt.Errorf("apt-cache depends %s: no 6.1 kernel among %q (needs Debian 12)", metaPackage, out)
	}
	return say(ctx, dir, "apt-get", "download", "-q", string(found[1]))
}

// say runs a command and tells what it said only if it failed.
func say(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, out)
	}
	return nil
}

// move copies, for a temporary directory is often another file system.
func move(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// inOrder finds modules below a directory, each after those that it depends on.
func inOrder(dir string, names []string) (ordered []string, err error) {
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			files[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("module %s: not in the package", name)
		}
		depends, err := dependsOn(file)
		if err != nil {
			return err
		}
		for _, d := range depends {
			if err := visit(moduleName(d)); err != nil {
				return err
			}
		}
		ordered = append(ordered, file)
		return nil
	}
	for _, name := range names {
		if err := visit(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// moduleName is how the kernel spells a module: files use both dashes and underscores.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// dependsOn reads what a module says about itself.
func dependsOn(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s: not a kernel module", file)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, field := range bytes.Split(data, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
