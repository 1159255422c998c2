package redirect

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// ownerEnv turns the test binary into an owner of the pod whose cgroup it names; rootEnv has the pins.
const (
	ownerEnv = "HACHI_TEST_OWNER"
	rootEnv  = "HACHI_TEST_ROOT"
)

// ownerMain attaches its pod again and again, each time with other settings, until it is killed. A line says when it did
// so for the first time.
func ownerMain(cgroup, root string, out io.Writer) int {
	go func() { // the test is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		fmt.Fprintln(os.Stderr, "owner:", err)
		return 1
	}
	for n := uint16(1); ; n++ {
		if err := own(cgroup, root, netns, n); err != nil {
			fmt.Fprintln(os.Stderr, "owner:", err)
			return 1
		}
		if n == 1 {
			fmt.Fprintln(out, "attached")
		}
	}
}

func own(cgroup, root string, netns *os.File, n uint16) error {
	ctx := context.Background()
	r, err := Open(ctx, Options{Root: root})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.Attach(ctx, Pod{Cgroups: []string{cgroup}, Netns: netns, Config: Config{
		Outbound: Outbound{Port: endpointPort, SkipPorts: []PortRange{{1000 + n%100, 2000}}},
		Inbound:  Inbound{Ports: []PortRange{AllPorts}, SkipPorts: []PortRange{{n % 50, 50}}},
	}})
	return err
}

// repeat is how often to do something: a tenth where time is short, as in a virtual machine.
func repeat(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// No connect goes around the endpoint, and none fails, while the owner is killed a hundred times and another takes over.
func TestOwnerIsKilled(t *testing.T) {
	kills := repeat(100)
	l := newLab(t)
	l.hosts(80)
	l.endpoints()
	id := l.attach(toEndpoint)
	g := l.guest()
	g.begin(order{To: at(outside4, 80), Count: true})
	for range kills {
		owner := exec.Command("/proc/self/exe")
		owner.Env = append(os.Environ(), ownerEnv+"="+l.cgroup, rootEnv+"="+l.root)
		owner.Stderr = os.Stderr
		in, err := owner.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := owner.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		l.within(l.pod, owner.Start)
		defer in.Close()
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "attached\n" {
			t.Fatalf("owner: %q, %v", line, err)
		}
		time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
		if err := owner.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := owner.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("owner ended by itself: %v", err)
		}
	}
	got := g.stop()
	if got.Endpoint < kills || got.Direct != 0 || len(got.Other) != 0 {
		t.Errorf("after %d kills: %+v; want all connections at the endpoint", kills, got)
	}
	t.Logf("%d connections during %d kills", got.Endpoint, kills)
	if n, err := l.r.Refused(id); n != 0 || err != nil {
		t.Errorf("%d refused, %v", n, err)
	}
	// One more owner puts in order what the killed ones left half done.
	l.attachAgain(Config{Outbound: Outbound{Port: endpointPort, SkipPorts: []PortRange{{81, 81}}}, Inbound: toPod.Inbound})
	if n := l.ruleCount(); n != 1 {
		t.Errorf("%d rules, want the last owner's", n)
	}
	l.setInbound(id, l.inboundEndpoints()...)
	l.hears(at(pod4, 8080), "endpoint on "+at(pod4, 8080)+" for "+outside4)
}

func (l *lab) attachAgain(c Config) {
	l.t.Helper()
	if _, err := l.r.Attach(context.Background(), Pod{Cgroups: []string{l.cgroup}, Netns: l.pod, Config: c}); err != nil {
		l.t.Fatal(err)
	}
}

// What the next owner takes over keeps its listeners, its settings and its count.
func TestAnotherOwnerTakesOver(t *testing.T) {
	l := newLab(t)
	c := Config{Outbound: toEndpoint.Outbound, Inbound: toPod.Inbound}
	id := l.attach(c)
	g := l.guest()
	l.refused(g.do(order{To: at(outside4, 80)}), at(outside4, 80))
	l.setInbound(id, l.inboundEndpoints()...)

	next := l.open()
	l.hears(at(pod4, 8080), "endpoint on "+at(pod4, 8080)+" for "+outside4)
	if _, err := next.Attach(context.Background(), Pod{Cgroups: []string{l.cgroup}, Netns: l.pod, Config: c}); err != nil {
		t.Fatal(err)
	}
	l.hears(at(pod4, 8080), "endpoint on "+at(pod4, 8080)+" for "+outside4)
	l.refused(g.do(order{To: at(outside4, 80)}), at(outside4, 80))
	if n, err := next.Refused(id); n != 2 || err != nil {
		t.Errorf("%d refused, %v; want 2", n, err)
	}
}

func TestDetachLeavesNothing(t *testing.T) {
	l := newLab(t)
	l.hosts(80)
	below := bpfenv.CgroupBelow(t, l.cgroup)
	second := bpfenv.Cgroup(t)
	ids, err := l.r.Attach(context.Background(), Pod{Cgroups: []string{l.cgroup, second}, Netns: l.pod, Config: Config{
		Outbound: Outbound{Port: endpointPort, SkipCgroups: []string{below}, SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		Inbound:  Inbound{Ports: []PortRange{{1, 1000}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n := l.links(); n != 2*5+2*2+1 {
		t.Errorf("%d links while attached", n)
	}
	g := l.guest()
	l.refused(g.do(order{To: at(outside4, 80)}), at(outside4, 80))
	if err := l.r.Detach(context.Background(), ids...); err != nil {
		t.Fatal(err)
	}
	l.direct(g.do(order{To: at(outside4, 80)}), at(outside4, 80))
	if n := l.links(); n != 0 {
		t.Errorf("%d links left", n)
	}
	if n := l.ruleCount(); n != 0 {
		t.Errorf("%d rules left", n)
	}
	if err := l.r.Detach(context.Background(), ids...); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("detached twice: %v", err)
	}
}

// links counts the kernel's links of this lab's programs.
func (l *lab) links() (n int) {
	l.t.Helper()
	ours := map[ebpf.ProgramID]bool{}
	for _, p := range l.r.programs {
		info, err := p.Info()
		if err != nil {
			l.t.Fatal(err)
		}
		id, _ := info.ID()
		ours[id] = true
	}
	pods, err := filepath.Glob(l.root + "/*/pod/*/inbound")
	if err != nil {
		l.t.Fatal(err)
	}
	n = len(pods)
	var all link.Iterator
	defer all.Close()
	for all.Next() {
		if info, err := all.Link.Info(); err == nil && ours[info.Program] {
			n++
		}
	}
	if err := all.Err(); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// A thousand pods come and go, each with both directions, and the kernel is as before.
func TestManyPods(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	before := inboundMapCount(t)
	for i := range repeat(1000) {
		dir := filepath.Join(l.cgroup, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		ids, err := l.r.Attach(ctx, Pod{Cgroups: []string{dir}, Netns: l.pod, Config: Config{Outbound: toEndpoint.Outbound, Inbound: toPod.Inbound}})
		if err == nil {
			err = l.r.Detach(ctx, ids...)
		}
		if err := errors.Join(err, os.Remove(dir)); err != nil {
			t.Fatalf("pod %d: %v", i, err)
		}
	}
	if n := l.links(); n != 0 {
		t.Errorf("%d links left", n)
	}
	// The kernel frees maps some time after the last reference went.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		n := inboundMapCount(t)
		if n <= before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d inbound maps left, %d before", n, before)
		}
	}
}

func inboundMapCount(t *testing.T) (n int) {
	t.Helper()
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := m.Info()
		m.Close()
		if err == nil && strings.HasPrefix(info.Name, "inbound_") {
			n++
		}
	}
}

// Collect removes what dead pods left, by the word of the owner or because the cgroup is gone, and nothing else.
func TestCollect(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	c := Config{Outbound: Outbound{Port: endpointPort, SkipPorts: []PortRange{{81, 81}}}}
	var ids []uint64
	for _, name := range []string{"alive", "unknown", "gone"} {
		dir := filepath.Join(l.cgroup, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
		got, err := l.r.Attach(ctx, Pod{Cgroups: []string{dir}, Config: c})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, got...)
		if err := l.r.refused.Put(got[0], uint64(1)); err != nil {
			t.Fatal(err)
		}
		if name == "gone" {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	alive, unknown, gone := ids[0], ids[1], ids[2]
	want := map[uint64]bool{unknown: true, gone: true}
	// The kernel lets go of a removed cgroup a moment later.
	for deadline := time.Now().Add(30 * time.Second); len(want) > 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		removed, err := l.r.Collect(ctx, func(id uint64) bool { return id != unknown })
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range removed {
			if !want[id] {
				t.Errorf("collected %d", id)
			}
			delete(want, id)
		}
	}
	if len(want) > 0 {
		t.Errorf("not collected: %v (gone is %d)", want, gone)
	}
	if n := l.links(); n != 5 {
		t.Errorf("%d links, want those of the one alive", n)
	}
	if n := l.ruleCount(); n != 1 {
		t.Errorf("%d rules, want that of the one alive", n)
	}
	var rows []uint64
	var id, count uint64
	for all := l.r.refused.Iterate(); all.Next(&id, &count); {
		rows = append(rows, id)
	}
	if len(rows) != 1 || rows[0] != alive {
		t.Errorf("refusals are kept for %v, want %d alone", rows, alive)
	}
	if err := l.r.Detach(ctx, alive); err != nil {
		t.Error(err)
	}
}
