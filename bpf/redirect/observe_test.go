package redirect

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// Accounting and flows of the same pod know what redirection did: refusals, which no other program sees, and where
// redirected connections wanted to go.
func TestObserversSeeRefusalsAndOriginalDestinations(t *testing.T) {
	l := newLab(t)
	o, err := observe.Open(context.Background(), observe.Options{Root: l.root})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	id, err := o.Attach(l.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	l.attach(toEndpoint)
	g := l.guest()
	for _, host := range both {
		l.refused(g.do(order{To: at(host, 80)}), at(host, 80))
	}
	l.endpoints()
	for _, host := range both {
		l.redirected(g.do(order{To: at(host, 81)}), at(host, 81))
	}
	var refused, originals []netip.AddrPort
	// A connection's record comes with its last packet.
	bpfenv.Eventually(t, "four records", func() bool {
		recent, err := o.Recent()
		if err != nil {
			t.Fatal(err)
		}
		refused, originals = nil, nil
		for _, r := range recent {
			switch {
			case r.Cgroup != id:
				t.Errorf("a record of cgroup %d, want %d", r.Cgroup, id)
			case r.Verdict == flow.Refused:
				refused = append(refused, r.Peer)
			case r.Original.IsValid():
				originals = append(originals, r.Original)
			}
		}
		return len(refused)+len(originals) >= 4
	})
	same(t, "refused", refused, at(outside4, 80), at(outside6, 80))
	same(t, "original destinations", originals, at(outside4, 81), at(outside6, 81))
	c, err := o.Detach(id)
	if err != nil || c.Refused != 2 || c.Opened != 2 {
		t.Errorf("counted %d refused, %d opened, %v; want 2 of each", c.Refused, c.Opened, err)
	}
}

func same(t *testing.T, what string, got []netip.AddrPort, want ...string) {
	t.Helper()
	seen := map[string]bool{}
	for _, a := range got {
		seen[a.String()] = true
	}
	for _, w := range want {
		if !seen[w] {
			t.Errorf("%s: %v, want %s among them", what, got, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %v, want %d", what, got, len(want))
	}
}

// Another agent's program on the same hook runs too if it lets others run, on the pod's cgroup as well as above it; one
// that does not is named, and nothing of ours stays.
func TestProgramsOfOthers(t *testing.T) {
	l := newLab(t)
	l.endpoints()
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "other_agent", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	beside, err := link.AttachCgroup(link.CgroupOptions{Path: l.cgroup, Attach: ebpf.AttachCGroupInet4Connect, Program: pass})
	if err != nil {
		t.Fatal(err)
	}
	l.attach(toEndpoint)
	l.redirected(l.guest().do(order{To: at(outside4, 80)}), at(outside4, 80))
	beside.Close()

	alone := openFile(t, bpfenv.Cgroup(t))
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(alone.Fd()), Program: pass, Attach: ebpf.AttachCGroupInet4Connect}); err != nil {
		t.Fatal(err)
	}
	_, err = l.r.Attach(context.Background(), Pod{Cgroups: []string{alone.Name()}, Config: toEndpoint})
	if !errors.Is(err, pin.ErrExclusive) {
		t.Errorf("beside an exclusive program: %v", err)
	}
	if n := l.links(); n != 5 {
		t.Errorf("%d links, want those of the other pod", n)
	}
}
