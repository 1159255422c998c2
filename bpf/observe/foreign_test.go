package observe_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// agent attaches a program named "agent" to a cgroup as others may do it, and returns how often it ran since.
func agent(t *testing.T, cgroup string, flags uint32) (ran func() uint64) {
	t.Helper()
	runs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runs.Close() })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "agent", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, runs.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(dir.Fd()), Program: p, Attach: ebpf.AttachCGroupInetEgress, Flags: flags}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(dir.Fd()), Program: p, Attach: ebpf.AttachCGroupInetEgress}); err != nil {
			t.Error(err)
		}
	})
	return func() (n uint64) {
		if err := runs.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}

const exclusive = 0 // neither override nor multi

func TestOtherAgents(t *testing.T) {
	for _, tc := range []struct {
		name     string
		flags    uint32
		above    bool // on the pod's parent
		attaches bool
		runs     bool // the agent's program still runs for the pod
		warns    bool
	}{
		{"sharing, on the pod", unix.BPF_F_ALLOW_MULTI, false, true, true, false},
		{"sharing, above", unix.BPF_F_ALLOW_MULTI, true, true, true, false},
		{"exclusive, on the pod", exclusive, false, false, true, false},
		{"exclusive, above", exclusive, true, false, true, false},
		{"to be overridden, on the pod", unix.BPF_F_ALLOW_OVERRIDE, false, false, true, false},
		{"to be overridden, above", unix.BPF_F_ALLOW_OVERRIDE, true, true, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := open(t)
			parent := bpfenv.Cgroup(t)
			pod := bpfenv.NewPodIn(t, bpfenv.CgroupBelow(t, parent), bpfenv.NewNetns(t))
			at := pod.Cgroup
			if tc.above {
				at = parent
			}
			ran := agent(t, at, tc.flags)
			var log bytes.Buffer
			old := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			_, err := o.Attach(pod.Cgroup)
			slog.SetDefault(old)
			if tc.attaches != (err == nil) {
				t.Fatalf("attach: %v", err)
			}
			if tc.attaches {
				defer func() {
					if _, err := o.Detach(pod.ID); err != nil {
						t.Error(err)
					}
				}()
			} else {
				if want := `program "agent" (id `; !errors.Is(err, pin.ErrExclusive) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), at) {
					t.Errorf("the error does not name the program and its place: %v", err)
				}
				// Not even the hooks that the agent has not taken.
				if left := files(t, rootOf(t), "pod"); len(left) != 0 {
					t.Errorf("pins after an error: %v", left)
				}
			}
			if warned := strings.Contains(log.String(), "agent") && strings.Contains(log.String(), parent); warned != tc.warns {
				t.Errorf("warning: %q, want one: %t", log.String(), tc.warns)
			}
			c, s := bpfenv.Pair(t, pod, pod.Listen(t, bpfenv.Free(loopback4)))
			bpfenv.Exchange(t, c, s, 100, 100)
			if n := ran(); (n > 0) != tc.runs {
				t.Errorf("the agent's program ran %d times, want some: %t", n, tc.runs)
			}
			if tc.attaches {
				if got, err := o.Read(pod.ID); err != nil || got.Opened != 1 || got.TxBytes == 0 {
					t.Errorf("counted %+v, %v", got.Traffic, err)
				}
			}
		})
	}
}
