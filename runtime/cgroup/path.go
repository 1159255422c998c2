package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
)

// parsePath reads an OCI cgroupsPath. "/a/b" and "a/b" name a directory beneath the mount points.
// "slice:prefix:name" is systemd's for the scope prefix-name.scope, and names the directory that systemd would
// give it.
//
// The directory is made without asking systemd for a scope. A scope needs a running process to begin with, which would
// then be moved (5 ms and more) after a round trip on D-Bus; and it is removed, with its counters, as soon as its
// last process ends, while containerd reads them after that. What systemd does with a foreign directory in a slice
// is to turn off controllers in it when the slice changes; see leafName.
func parsePath(p string) (dir string, systemd bool, err error) {
	if strings.Count(p, ":") == 2 && !strings.Contains(p, "/") {
		slice, unit, err := parseUnit(p)
		if err != nil {
			return "", false, err
		}
		dir, err = slicePath(slice)
		if err != nil {
			return "", false, fmt.Errorf("cgroup path %q: %w", p, err)
		}
		return path.Join(dir, unit), true, nil
	}
	dir = path.Clean("/" + p)
	if dir == "/" || strings.ContainsAny(dir, "\x00\n") {
		return "", false, fmt.Errorf("cgroup path %q: names no group (set linux.cgroupsPath): %w", p, errdefs.ErrInvalidArgument)
	}
	return dir, false, nil
}

func parseUnit(p string) (slice, unit string, err error) {
	parts := strings.Split(p, ":")
	slice, prefix, name := parts[0], parts[1], parts[2]
	if slice == "" {
		slice = "system.slice"
	}
	if name == "" || strings.ContainsAny(p, "\x00\n") || strings.HasSuffix(name, ".slice") {
		return "", "", fmt.Errorf("cgroup path %q: wants slice:prefix:name of a scope: %w", p, errdefs.ErrInvalidArgument)
	}
	unit = name + ".scope"
	if prefix != "" {
		unit = prefix + "-" + unit
	}
	return slice, unit, nil
}

// slicePath expands a slice's name: a-b.slice is the directory /a.slice/a-b.slice (systemd.slice(5)).
func slicePath(slice string) (string, error) {
	stem, ok := strings.CutSuffix(slice, ".slice")
	if !ok || stem == "" {
		return "", fmt.Errorf("%q is not a slice: %w", slice, errdefs.ErrInvalidArgument)
	}
	if stem == "-" {
		return "/", nil
	}
	dir, prefix := "/", ""
	for _, part := range strings.Split(stem, "-") {
		if part == "" {
			return "", fmt.Errorf("%q is not a slice: %w", slice, errdefs.ErrInvalidArgument)
		}
		prefix += part
		dir = path.Join(dir, prefix+".slice")
		prefix += "-"
	}
	return dir, nil
}
