// Package doctor finds out what a machine lacks for hachi, and says what to do about it.
//
// Everything is found out by asking the machine: nothing is changed, made or left behind.
package doctor

import (
	"context"
	"fmt"
	"strings"
)

// Status is the answer of a probe.
type Status string

// A probe says Unknown when it could not find out, for example because an ordinary user may not look.
const (
	OK      Status = "ok"
	Missing Status = "missing"
	Unknown Status = "unknown"
)

// What needs a thing; Finding.For.
const (
	forPods       = "pods"
	forLinux      = "linux containers"
	forKubernetes = "kubernetes"
	forAccounting = "accounting"
)

// Finding is the answer of one probe.
type Finding struct {
	// Name is what was looked for, for example "cgroup2".
	Name   string `json:"name"`
	Status Status `json:"status"`
	// For is what does not work without it, for example "accounting".
	For string `json:"for"`
	// Detail is what was found, or why it cannot be told.
	Detail string `json:"detail,omitempty"`
	// Needs is what to do, when Status is Missing.
	Needs string `json:"needs,omitempty"`
}

// Options say where to look; zero values are what a node has.
type Options struct {
	// Address is containerd's socket; default "/run/containerd/containerd.sock".
	Address string
	// Artifacts is the store of compiled modules; default "/var/lib/hachi/artifacts".
	Artifacts string
}

// DefaultAddress is where containerd listens unless it is told otherwise.
const DefaultAddress = "/run/containerd/containerd.sock"

// Examine runs all probes. It takes below a second, and a few seconds when containerd does not answer.
func Examine(ctx context.Context, o Options) []Finding {
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if o.Artifacts == "" {
		o.Artifacts = "/var/lib/hachi/artifacts"
	}
	mounts := readMounts("/proc/self/mountinfo")
	out := []Finding{kernel(), privileges(), artifacts(o.Artifacts)}
	out = append(out, mounts.controllers(), mounts.cgroup2())
	out = append(out, btf("/sys/kernel/btf/vmlinux"), mounts.bpffs())
	out = append(out, Features()...)
	out = append(out, foreign(mounts.cgroup2Dir()))
	d := inspectDaemon(ctx, o.Address)
	return append(out, d.findings()...)
}

// Lacking tells whether something is missing.
func Lacking(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Missing {
			return true
		}
	}
	return false
}

func ok(name, need, format string, a ...any) Finding {
	return Finding{Name: name, Status: OK, For: need, Detail: oneLine(format, a...)}
}

// missing says what was found, and what to do.
func missing(name, need, needs, format string, a ...any) Finding {
	return Finding{Name: name, Status: Missing, For: need, Needs: needs, Detail: oneLine(format, a...)}
}

func unknown(name, need, format string, a ...any) Finding {
	return Finding{Name: name, Status: Unknown, For: need, Detail: oneLine(format, a...)}
}

// oneLine keeps what other programs' errors say to a row of the table.
func oneLine(format string, a ...any) string {
	return strings.Join(strings.Fields(fmt.Sprintf(format, a...)), " ")
}
