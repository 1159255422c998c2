package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/runtime/cgroup"
	"github.com/hachi-run/hachi/shim/linux"
	"github.com/hachi-run/hachi/shim/meter"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/reap"
)

// Words that make this program do one thing for the accounts and end. Both need memory that would stay with a server.
const (
	// LoadCommand loads the BPF programs of the node.
	LoadCommand = "load"
	// CollectCommand closes the accounts that killed servers left open.
	CollectCommand = "collect"
)

// Unsupported is the exit code of LoadCommand where the machine lacks something: EX_UNAVAILABLE of sysexits.h.
const Unsupported = 69

// openMeter makes the pod's meter.
func openMeter(namespace string, r *reap.Reaper) (*meter.Meter, error) {
	return meter.New(meter.Options{
		Namespace: namespace,
		BPF:       observe.Options{Loader: func(ctx context.Context) error { return self(ctx, r, LoadCommand) }},
		Collect:   func(ctx context.Context) error { return self(ctx, r, CollectCommand) },
	})
}

// self runs this program with one word.
func self(ctx context.Context, r *reap.Reaper, word string) error {
	cmd := exec.Command("/proc/self/exe", word)
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	wait, err := r.Start(cmd)
	if err != nil {
		return fmt.Errorf("hachi-shim %s: %w", word, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	status := wait()
	stop()
	why := errors.New(strings.TrimPrefix(strings.TrimSpace(said.String()), "hachi-shim: "))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("hachi-shim %s: %w", word, context.Cause(ctx))
	case status == Unsupported:
		return fmt.Errorf("%w: %w", observe.ErrUnsupported, why)
	case status != 0:
		return fmt.Errorf("hachi-shim %s: exit code %d: %w", word, status, why)
	}
	return nil
}

// wasmObserver shows the meter the pod's Wasm containers.
type wasmObserver struct{ *meter.Meter }

// Observe implements pod.Observer.
func (o wasmObserver) Observe(id string, annotations map[string]string, g pod.Group) pod.Observation {
	return o.Attach(id, annotations, g.UnifiedPath(), g.Dirs())
}

// linuxObserver shows it the Linux containers, whose cgroups are runc's.
type linuxObserver struct {
	*meter.Meter
	cgroups *cgroup.Manager
}

// Observe implements linux.Observer.
func (o linuxObserver) Observe(id string, annotations map[string]string, pid int) (linux.Observation, error) {
	unified, dirs, err := o.cgroups.Locate(pid)
	if err != nil {
		return nil, err
	}
	return o.Attach(id, annotations, unified, dirs), nil
}
