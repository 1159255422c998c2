package meter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/shim/ledger"
)

func exits(t *testing.T, m *Meter) []ledger.Exit {
	t.Helper()
	all, err := m.book.Exited()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAccountOfAContainer(t *testing.T) {
	root := pins(t)
	m := newMeter(t, here(root))
	m.Warm()
	g := group(t, "one")
	a := m.Attach("one", nil, g.UnifiedPath(), g.Dirs())
	a.Ready(t.Context())
	converse(t, g)

	entries, err := m.book.Entries()
	if err != nil || len(entries) != 1 {
		t.Fatalf("the ledger has %v, %v", entries, err)
	}
	o, err := observe.OpenExisting(root)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r, err := m.book.Read(entries[0], o)
	if err != nil {
		t.Fatal(err)
	}
	// Each packet has 20 bytes of IPv4 and 20 or more of TCP around its part of the payload.
	if least := sentBytes + 40*r.TxPackets; r.TxBytes < least || r.TxBytes > least+40*r.TxPackets || r.TxPackets < 3 || r.RxPackets < 3 ||
		r.ConnectionsOpened != 1 || r.ConnectionsAccepted != 0 || r.ConnectionsOpen != 0 || r.RTT.P50 <= 0 || r.CPU == 0 || r.Pod != "one" {
		t.Errorf("after one call with %d bytes: %+v", sentBytes, r)
	}
	n := a.Traffic()
	if n == nil || n.Name != "eth0" || n.RxBytes != r.RxBytes || n.TxBytes != r.TxBytes || n.RxPackets != r.RxPackets || n.TxPackets != r.TxPackets {
		t.Errorf("metrics say %+v, the ledger %+v", n, r)
	}

	a.End()
	a.End()
	if left, err := m.book.Entries(); err != nil || len(left) != 0 {
		t.Errorf("after the end the ledger has %v, %v", left, err)
	}
	if x := exits(t, m); len(x) != 1 || x[0].TxBytes != r.TxBytes || x[0].ConnectionsOpened != 1 || x[0].CPU < r.CPU || x[0].ID != "one" {
		t.Errorf("exit records: %+v", x)
	}
	if pods, _ := filepath.Glob(filepath.Join(root, "*", "pod", "*")); len(pods) != 0 {
		t.Errorf("still pinned: %v", pods)
	}
	if n := a.Traffic(); n != nil && n.TxBytes != 0 {
		t.Errorf("traffic after the end: %+v", n)
	}
}

func TestUndo(t *testing.T) {
	root := pins(t)
	m := newMeter(t, here(root))
	g := group(t, "one")
	a := m.Attach("one", nil, g.UnifiedPath(), g.Dirs())
	a.Undo()
	a.End()
	if left, err := m.book.Entries(); err != nil || len(left) != 0 {
		t.Errorf("in the ledger: %v, %v", left, err)
	}
	if x := exits(t, m); len(x) != 0 {
		t.Errorf("exit records: %+v", x)
	}
	if pods, _ := filepath.Glob(filepath.Join(root, "*", "pod", "*")); len(pods) != 0 {
		t.Errorf("pinned: %v", pods)
	}
}

// The shim dies, the container's cgroup outlives it for a moment, and somebody else closes the account.
func TestCollectAfterAKill(t *testing.T) {
	root := pins(t)
	m := newMeter(t, here(root))
	orphan, living := group(t, "orphan"), group(t, "living")
	for id, g := range map[string]interface {
		UnifiedPath() string
		Dirs() []string
	}{"orphan": orphan, "living": living} {
		m.Attach(id, nil, g.UnifiedPath(), g.Dirs()).Ready(t.Context())
	}
	converse(t, orphan)
	entries, err := m.book.Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.ID == "orphan" {
			e.PIDStart++ // another process than this one
			if err := m.book.Enter(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	o, err := observe.OpenExisting(root)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for range 2 {
		if _, err := m.book.Collect(o, nil); err != nil {
			t.Fatal(err)
		}
	}
	if x := exits(t, m); len(x) != 1 || x[0].ID != "orphan" || x[0].TxBytes < sentBytes || x[0].ConnectionsOpened != 1 {
		t.Errorf("exit records: %+v", x)
	}
	left, err := m.book.Entries()
	if err != nil || len(left) != 1 || left[0].ID != "living" {
		t.Fatalf("in the ledger: %+v, %v", left, err)
	}
	if _, err := o.Read(left[0].CgroupID); err != nil {
		t.Errorf("who lives is not counted any more: %v", err)
	}
	if pods, _ := filepath.Glob(filepath.Join(root, "*", "pod", "*")); len(pods) != 1 {
		t.Errorf("pinned: %v", pods)
	}
	if err := m.book.End(left[0], o); err != nil {
		t.Error(err)
	}
}

// words is the log of a test.
type words struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func listen(t *testing.T) *words {
	w, before := new(words), slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(w, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return w
}

// A machine that cannot count: containers are in the ledger all the same, and the log has the reason once.
func TestWithoutBPF(t *testing.T) {
	root := pins(t)
	log := listen(t)
	m := newMeter(t, Options{BPF: observe.Options{Root: root, Loader: func(context.Context) error {
		return fmt.Errorf("%w: no such luck", observe.ErrUnsupported)
	}}})
	for _, id := range []string{"one", "two"} {
		g := group(t, id)
		a := m.Attach(id, nil, g.UnifiedPath(), g.Dirs())
		a.Ready(t.Context())
		if n := a.Traffic(); n != nil {
			t.Errorf("traffic: %+v", n)
		}
		if all, err := m.book.Entries(); err != nil || len(all) != 1 || all[0].ID != id {
			t.Errorf("in the ledger: %v, %v", all, err)
		}
		a.End()
	}
	if x := exits(t, m); len(x) != 2 || x[0].TxBytes != 0 {
		t.Errorf("exit records: %+v", x)
	}
	if n := strings.Count(log.String(), "no such luck"); n != 1 {
		t.Errorf("the reason is in the log %d times:\n%s", n, log)
	}
}

// A container without a cgroup2 directory is in the ledger, and the log says why it is not counted.
func TestWithoutUnified(t *testing.T) {
	log := listen(t)
	m := newMeter(t, Options{})
	a := m.Attach("one", nil, "", []string{t.TempDir()})
	a.Ready(t.Context())
	if all, err := m.book.Entries(); err != nil || len(all) != 1 {
		t.Errorf("in the ledger: %v, %v", all, err)
	}
	a.End()
	if !strings.Contains(log.String(), "cgroup2") {
		t.Errorf("the log: %s", log)
	}
}

// A loader that hangs holds up neither the container nor the end of the server.
func TestSlowLoader(t *testing.T) {
	root := pins(t)
	began := make(chan struct{})
	m := newMeter(t, Options{BPF: observe.Options{Root: root, Loader: func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return context.Cause(ctx)
	}}})
	g := group(t, "one")
	a := m.Attach("one", nil, g.UnifiedPath(), g.Dirs())
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Ready(ctx)
	if n := a.Traffic(); n != nil {
		t.Errorf("traffic: %+v", n)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.End()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the end of a container waits for the loader")
		m.end()
		<-ended
	}
}

func TestCollectIsOnceInAWhile(t *testing.T) {
	book := filepath.Join(t.TempDir(), "ledger")
	var calls int
	for range 2 {
		m, err := New(Options{Ledger: book, BPF: observe.Options{Loader: func(context.Context) error { return observe.ErrUnsupported }},
			Collect: func(context.Context) error {
				calls++
				l, err := ledger.Open(book)
				if err != nil {
					return err
				}
				_, err = l.Collect(nil, nil)
				return err
			}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(book, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		m.delay = 0
		m.Warm()
		for deadline := time.Now().Add(10 * time.Second); m.book.Due(time.Hour) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 1 {
		t.Errorf("two pods of one node collected %d times", calls)
	}
}
