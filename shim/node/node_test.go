package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/runtime/cgroup"
	"github.com/hachi-run/hachi/shim/ledger"
)

// callEnv makes this program a container's: it calls an address and sends five bytes.
const callEnv = "HACHI_NODE_CALL"

func TestMain(m *testing.M) {
	if address := os.Getenv(callEnv); address != "" {
		os.Exit(call(address))
	}
	os.Exit(testenv.Main(m))
}

func call(address string) int {
	c, err := net.Dial("tcp", address)
	if err == nil {
		_, err = io.WriteString(c, "hello")
	}
	if err == nil {
		err = c.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// lab is a node of the test's own: a ledger, pins, and one container's cgroup.
type lab struct {
	*Node
	book     *ledger.Ledger
	observer *observe.Observer
	group    *cgroup.Group
	entry    ledger.Entry
}

func newLab(t *testing.T) *lab {
	t.Helper()
	testenv.NeedRoot(t)
	pins := fmt.Sprintf("/sys/fs/bpf/hachi-node-%d", os.Getpid())
	t.Cleanup(func() {
		if err := os.RemoveAll(pins); err != nil {
			t.Error(err)
		}
	})
	observer, err := observe.Open(t.Context(), observe.Options{Root: pins})
	if errors.Is(err, observe.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { observer.Close() })
	dir := filepath.Join(t.TempDir(), "ledger")
	book, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(Options{Ledger: dir, Pins: pins})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{Node: n, book: book, observer: observer}
	l.container(t)
	return l
}

// container makes a cgroup and does with it what a shim does.
func (l *lab) container(t *testing.T) {
	t.Helper()
	m, err := cgroup.Open(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if l.group, err = m.Create(fmt.Sprintf("/hachi-node-%d/web", os.Getpid()), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.group.Delete(); err != nil {
			t.Error(err)
		}
		for _, dir := range l.group.Dirs() {
			os.Remove(filepath.Dir(dir))
		}
	})
	annotations := map[string]string{
		"io.kubernetes.cri.sandbox-namespace": "shop", "io.kubernetes.cri.sandbox-name": "web-1", "io.kubernetes.cri.container-name": "server",
	}
	if l.entry, err = ledger.NewEntry("k8s.io", "0815", annotations, l.group.UnifiedPath(), l.group.Dirs()); err != nil {
		t.Fatal(err)
	}
	if err := l.book.Enter(l.entry); err != nil {
		t.Fatal(err)
	}
	if _, err := l.observer.Attach(l.group.UnifiedPath()); err != nil {
		t.Fatal(err)
	}
}

// converse lets a process of the container call this one, over loopback.
func (l *lab) converse(t *testing.T) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), callEnv+"="+server.Addr().String())
	cmd.Stderr = os.Stderr
	if err := l.group.Spawn(cmd, (*exec.Cmd).Start); err != nil {
		t.Fatal(err)
	}
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
	conn.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// named tells whether a flow is a connection of the lab's container.
func named(f *Flow) bool {
	return f.Namespace == "shop" && f.Pod == "web-1" && f.Container == "server" && f.ID == "0815" &&
		f.Connection != nil && f.Kind == flow.KindConn && f.Direction == flow.Out && f.TxBytes == 5 && f.Verdict == flow.OK
}

func TestNode(t *testing.T) {
	l := newLab(t)
	l.converse(t)
	containers, err := l.Containers()
	if err != nil || len(containers) != 1 {
		t.Fatalf("%d containers, %v; want one", len(containers), err)
	}
	c := containers[0]
	if c.Pod != "web-1" || !c.Counted || c.ConnectionsOpened != 1 || c.TxBytes <= 5 || c.CgroupID != l.entry.CgroupID || !c.Started.Equal(l.entry.Started) {
		t.Errorf("%+v", c)
	}
	if c.RoundTrips.Count() == 0 {
		t.Error("no round trip times")
	}
	flows, err := l.Recent()
	if err != nil || len(flows) != 1 || !named(&flows[0]) {
		t.Errorf("%v: %+v; want one named connection", err, flows)
	}
	if lost, err := l.Lost(); lost != 0 || err != nil {
		t.Errorf("%d lost, %v", lost, err)
	}

	// Its end: names and counters stay.
	if err := l.book.End(l.entry, l.observer); err != nil {
		t.Fatal(err)
	}
	if containers, err := l.Containers(); err != nil || len(containers) != 0 {
		t.Errorf("after its end: %v, %v", containers, err)
	}
	exits, err := l.Exited()
	if err != nil || len(exits) != 1 || exits[0].ConnectionsOpened != 1 || exits[0].TxBytes < c.TxBytes || !exits[0].Counted || exits[0].RoundTrips != c.RoundTrips || exits[0].RTT != c.RTT {
		t.Errorf("%v: %+v; want its last reading", err, exits)
	}
	if flows, err := l.Recent(); err != nil || len(flows) != 1 || !named(&flows[0]) {
		t.Errorf("after its end: %v: %+v", err, flows)
	}
}

func TestFollow(t *testing.T) {
	l := newLab(t)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	got, done := make(chan Flow, 10), make(chan error, 1)
	go func() { done <- l.Follow(ctx, func(f *Flow) { got <- *f }) }()
	// The first ones may be before the follower is there.
	for followed := false; !followed && ctx.Err() == nil; {
		l.converse(t)
		select {
		case f := <-got:
			followed = true
			if !named(&f) {
				t.Errorf("%+v", f)
			}
		case <-time.After(time.Second):
		}
	}
	if ctx.Err() != nil {
		t.Error("no flow arrived")
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("follow: %v", err)
	}
}

// TestCollect finds a container whose shim was killed and whose cgroup is gone.
func TestCollect(t *testing.T) {
	l := newLab(t)
	l.converse(t)
	if err := l.Collect(); err != nil {
		t.Fatal(err)
	}
	if containers, err := l.Containers(); err != nil || len(containers) != 1 {
		t.Fatalf("%d containers, %v; one lives", len(containers), err)
	}
	if err := l.group.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := l.Collect(); err != nil {
		t.Fatal(err)
	}
	if exits, err := l.Exited(); err != nil || len(exits) != 1 {
		t.Errorf("%d exit records, %v; want one", len(exits), err)
	}
	links, err := filepath.Glob(filepath.Join(l.o.Pins, "*", "pod", "*"))
	if err != nil || len(links) != 0 {
		t.Errorf("pins are left: %v, %v", links, err)
	}
}

// TestWithoutPins: nothing is loaded. A reading of what cgroups tell comes with an error that says what is missing.
func TestWithoutPins(t *testing.T) {
	dir := t.TempDir()
	n, err := Open(Options{Ledger: filepath.Join(dir, "ledger"), Pins: filepath.Join(dir, "pins")})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if c, err := n.Containers(); len(c) != 0 || err != nil {
		t.Errorf("an empty node: %v, %v", c, err)
	}
	if f, err := n.Recent(); len(f) != 0 || err != nil {
		t.Errorf("an empty node: %v, %v", f, err)
	}
	if _, err := n.Lost(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("losses of an empty node: %v", err)
	}
	if err := n.Collect(); err != nil {
		t.Errorf("collect on an empty node: %v", err)
	}
	book, err := ledger.Open(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := ledger.NewEntry("default", "web", nil, "", []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Enter(e); err != nil {
		t.Fatal(err)
	}
	c, err := n.Containers()
	if err == nil || !strings.Contains(err.Error(), "hachi doctor") || len(c) != 1 || c[0].Counted {
		t.Errorf("%+v, %v; want one uncounted container and an error", c, err)
	}
	if _, err := n.Recent(); err == nil || !strings.Contains(err.Error(), "hachi doctor") {
		t.Errorf("recent flows: %v", err)
	}
}

func TestExplain(t *testing.T) {
	if err := explain(&os.PathError{Op: "open", Path: "/run/hachi/ledger", Err: syscall.EACCES}); !strings.Contains(err.Error(), "root") || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	if explain(nil) != nil {
		t.Error("an error of nothing")
	}
}

func TestFilter(t *testing.T) {
	f := &Flow{Namespace: "a", Pod: "b"}
	for filter, want := range map[Filter]bool{
		{}: true, {Pod: "b"}: true, {Namespace: "a"}: true, {Namespace: "a", Pod: "b"}: true,
		{Pod: "c"}: false, {Namespace: "b", Pod: "b"}: false,
	} {
		if filter.Match(f) != want {
			t.Errorf("%+v: %v", filter, !want)
		}
	}
}
