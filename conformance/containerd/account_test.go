package containerd

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/typeurl/v2"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/linux"
	"github.com/hachi-run/hachi/internal/testenv/loopback"
	"github.com/hachi-run/hachi/internal/toolchain/gowasm"
	"github.com/hachi-run/hachi/shim/ledger"
)

// What each conversation of these cases is: so many calls, with so many bytes there and back on each. They fit into
// one segment, so that nothing of them is counted in other units than it is sent in.
const (
	calls    = 20
	callSize = 1000
)

const (
	peerWasm  = "example.test/peer:wasm"
	peerLinux = "example.test/peer:linux"
)

// peerImage puts the kind's image of program peer into a containerd namespace and makes it the world's.
func (w *world) peerImage(t *testing.T, namespace string) {
	t.Helper()
	w.image, w.entry = peerLinux, "/bin/peer"
	if w.wasm() {
		w.image, w.entry = peerWasm, "/probe.wasm" // packWasm's name for any module
	}
	w.importArchive(t, namespace, peerArchive(t, w.wasm()))
}

func (w *world) importArchive(t *testing.T, namespace, archive string) {
	t.Helper()
	if _, err := w.d.Ctr(w.ctx, "-n", namespace, "image", "import", "--all-platforms", archive); err != nil {
		t.Fatal(err)
	}
}

// peerArchive packs the image; the Wasm one is compiled by the product, with a network.
func peerArchive(t *testing.T, wasm bool) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "peer.tar")
	if wasm {
		packWasm(t, peerModule(t), peerWasm, archive)
		return archive
	}
	img, err := linux.Image([]linux.File{{Path: "bin/peer", From: guest.Built(t, guest.Linux, "conformance/containerd/peer")}},
		v1.Config{Entrypoint: []string{"/bin/peer"}})
	if err == nil {
		err = linux.Archive(img, peerLinux, archive)
	}
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// peerModule is the program for WASI, compiled once.
func peerModule(t *testing.T) string {
	t.Helper()
	module, err := compilePeer()
	if err != nil {
		t.Fatal(err)
	}
	return module
}

var compilePeer = sync.OnceValues(func() (string, error) {
	top, err := testenv.Source()
	if err != nil {
		return "", err
	}
	module := filepath.Join(top, "bin", "guests", "peer.wasm")
	if err := os.MkdirAll(filepath.Dir(module), 0o755); err != nil {
		return "", err
	}
	// Beside and renamed: another process may have the file open or be writing it too.
	out := fmt.Sprintf("%s.%d", module, os.Getpid())
	err = gowasm.Build(context.Background(), gowasm.Options{Package: "./conformance/containerd/peer", Dir: top, Output: out, LDFlags: "-s", Stderr: os.Stderr})
	if err != nil {
		return "", err
	}
	return module, os.Rename(out, module)
})

// reading is what the node's book and BPF say of a container, by its id.
func (w *world) reading(t *testing.T, id string) (ledger.Reading, error) {
	t.Helper()
	book, err := ledger.Open(ledger.Dir)
	if err != nil {
		t.Fatal(err)
	}
	o, err := observe.OpenExisting("")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	entries, err := book.Entries()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(entries, func(e ledger.Entry) bool { return e.ID == id && e.ContainerdNamespace == w.namespace() })
	if i < 0 {
		return ledger.Reading{}, fmt.Errorf("%s is not in the ledger: %w", id, os.ErrNotExist)
	}
	tally, err := book.Read(entries[i], o)
	return tally.Reading, err
}

// exitOf is the record of a container that has ended.
func (w *world) exitOf(t *testing.T, id string) ledger.Exit {
	t.Helper()
	book, err := ledger.Open(ledger.Dir)
	if err != nil {
		t.Fatal(err)
	}
	exits, err := book.Exited()
	if err != nil {
		t.Fatal(err)
	}
	// Ids begin anew with each test process, but a lone container's namespace is this containerd's alone.
	mine := slices.DeleteFunc(exits, func(x ledger.Exit) bool {
		return x.ID != id || x.Pod == id && x.Namespace != w.namespace()
	})
	if len(mine) != 1 {
		t.Fatalf("%d exit records of %s, want one: %+v", len(mine), id, mine)
	}
	return mine[0]
}

// conversed checks a reading after n calls, of which it was asked for so many and made so many itself.
func conversed(r ledger.Reading, accepted, opened uint64) error {
	payload := (accepted + opened) * callSize
	switch {
	case r.ConnectionsAccepted != accepted || r.ConnectionsOpened != opened:
		return fmt.Errorf("%d accepted and %d opened, want %d and %d", r.ConnectionsAccepted, r.ConnectionsOpened, accepted, opened)
	case r.ConnectionsOpen != 0 || r.ConnectionsRefused != 0:
		return fmt.Errorf("%d are open, %d refused, want none", r.ConnectionsOpen, r.ConnectionsRefused)
	// Headers of IPv4 and TCP are 40 to 80 bytes, and each conversation takes at least three packets each way.
	case r.RxPackets < 3*(accepted+opened) || r.RxBytes < payload+40*r.RxPackets || r.RxBytes > payload+80*r.RxPackets:
		return fmt.Errorf("%d bytes in %d packets came in, with %d of payload", r.RxBytes, r.RxPackets, payload)
	case r.TxPackets < 3*(accepted+opened) || r.TxBytes < payload+40*r.TxPackets || r.TxBytes > payload+80*r.TxPackets:
		return fmt.Errorf("%d bytes in %d packets went out, with %d of payload", r.TxBytes, r.TxPackets, payload)
	case r.RTT.P50 <= 0 || r.RTT.P99 < r.RTT.P50:
		return fmt.Errorf("round trip times %+v", r.RTT)
	}
	return nil
}

// accounts waits until the container's reading fits, for closing takes the kernel a moment.
func (w *world) accounts(t *testing.T, id string, accepted, opened uint64) (r ledger.Reading) {
	t.Helper()
	eventually(t, fmt.Sprintf("account of %d calls to and %d by %s", accepted, opened, id), func() (err error) {
		if r, err = w.reading(t, id); err != nil {
			return err
		}
		return conversed(r, accepted, opened)
	})
	if r.CPU == 0 || r.Memory == 0 {
		t.Errorf("%s has used %d ns of CPU and %d bytes", id, r.CPU, r.Memory)
	}
	return r
}

// echo serves with what dial-outs want until the test ends, in the network namespace of a process.
func echo(t *testing.T, pid uint32, address string) string {
	t.Helper()
	var l net.Listener
	err := inside(pid, func() (err error) {
		l, err = net.Listen("tcp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	t.Cleanup(func() { l.Close(); served.Wait() })
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				// As plain streams: between connections Go splices, and keeps the pipes for that.
				_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			})
		}
	})
	return l.Addr().String()
}

// callIt makes calls to address as program peer does.
func callIt(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), address string) {
	t.Helper()
	for range calls {
		c, err := dial(t.Context(), "tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Write(make([]byte, callSize))
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		n, rerr := io.Copy(io.Discard, c)
		c.Close()
		if err != nil || rerr != nil || n != callSize {
			t.Fatalf("%d of %d bytes came back, %v, %v", n, callSize, err, rerr)
		}
	}
}

// alone creates a container of program peer with a network namespace of its own, in which only lo is.
func (w *world) alone(t *testing.T, annotations map[string]string, args ...string) *container {
	t.Helper()
	c := w.create(t, setup{args: args, spec: []oci.SpecOpts{oci.WithAnnotations(annotations)}})
	if err := inside(c.task.Pid(), loopback.Up); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *container) run(t *testing.T, first string) {
	t.Helper()
	if err := c.task.Start(c.w.ctx); err != nil {
		t.Fatal(err)
	}
	c.stdout.await(t, first)
}

var noListener = map[string]string{"hachi.run/listen": "none"}

// TestAccounting counts what one container does, by whichever way its sockets came to be.
func TestAccounting(t *testing.T) {
	needBPF(t)
	forEach(t, func(t *testing.T, w *world) {
		if !w.hachi() {
			return
		}
		w.peerImage(t, w.d.Mark())
		for _, c := range []tableCase{
			{"calls to a port that was opened for it", kind.wasm, openedPort},
			{"calls to a socket of its own", nil, ownSocket},
			{"its own calls, and it is short-lived", nil, ownCalls},
			{"calls by an exec", nil, execCalls},
			{"on the node's network", nil, nodeNetwork},
			{"of two, each has its own", nil, twoApart},
			{"the shim is killed", nil, accountAfterKill},
			{"the shim of a redirected one is killed", nil, redirectedKilled},
			{"one that is refused", kind.wasm, accountOfNothing},
		} {
			if c.only != nil && !c.only(w.kind) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				w.clean(t)
				c.run(t, w)
			})
		}
	})
}

func openedPort(t *testing.T, w *world) {
	c := w.alone(t, map[string]string{"hachi.run/listen": "8080"}, "serve", ":8080")
	c.run(t, "serving")
	callIt(t, c.dialer(), "127.0.0.1:8080")
	r := w.accounts(t, c.id, calls, 0)
	c.networkMetrics(t, r)
	if r.Namespace != w.d.Mark() || r.Pod != c.id || r.Container != c.id {
		t.Errorf("a lone container is called %s/%s/%s", r.Namespace, r.Pod, r.Container)
	}
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
	w.accounts(t, c.id, calls, 0) // until it is deleted
	c.remove(t)
	x := w.exitOf(t, c.id)
	if err := conversed(x.Reading, calls, 0); err != nil || x.CPU < r.CPU || x.Ended.Before(x.Started) {
		t.Errorf("%v: %+v", err, x)
	}
	if _, err := w.reading(t, c.id); err == nil {
		t.Error("who has ended is still in the ledger")
	}
}

// networkMetrics compares containerd's metrics with a reading.
func (c *container) networkMetrics(t *testing.T, r ledger.Reading) {
	t.Helper()
	m, err := c.task.Metrics(c.w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	any, err := typeurl.UnmarshalAny(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	var rx, tx, rxPackets, txPackets uint64
	switch m := any.(type) {
	case *cgroup1.Metrics:
		for _, n := range m.GetNetwork() {
			rx, tx, rxPackets, txPackets = n.RxBytes, n.TxBytes, n.RxPackets, n.TxPackets
		}
	case *cgroup2.Metrics:
		for _, n := range m.GetNetwork() {
			rx, tx, rxPackets, txPackets = n.RxBytes, n.TxBytes, n.RxPackets, n.TxPackets
		}
	}
	if rx != r.RxBytes || tx != r.TxBytes || rxPackets != r.RxPackets || txPackets != r.TxPackets {
		t.Errorf("metrics: %d/%d in, %d/%d out; want %+v", rx, rxPackets, tx, txPackets, r)
	}
}

func ownSocket(t *testing.T, w *world) {
	c := w.alone(t, noListener, "serve", ":8081")
	c.run(t, "serving")
	callIt(t, c.dialer(), "127.0.0.1:8081")
	c.networkMetrics(t, w.accounts(t, c.id, calls, 0))
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
}

func ownCalls(t *testing.T, w *world) {
	c := w.alone(t, noListener, "call", "127.0.0.1:8082", itoa(callSize), itoa(calls))
	echo(t, c.task.Pid(), "127.0.0.1:8082")
	c.run(t, "called")
	if code := c.wait(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, c.stderr.String())
	}
	c.remove(t)
	x := w.exitOf(t, c.id)
	if err := conversed(x.Reading, 0, calls); err != nil || x.CPU == 0 {
		t.Errorf("%v: %+v", err, x)
	}
}

func execCalls(t *testing.T, w *world) {
	c := w.alone(t, noListener, "serve", ":8081")
	c.run(t, "serving")
	callIt(t, c.dialer(), "127.0.0.1:8081")
	echo(t, c.task.Pid(), "127.0.0.1:8082")
	_, out, exit := c.exec(t, "caller", nil, "call", "127.0.0.1:8082", itoa(callSize), itoa(calls))
	if got := code(t, exit); got != 0 {
		t.Fatalf("exec: exit code %d: %s", got, out.String())
	}
	w.accounts(t, c.id, calls, calls)
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
}

// nodeNetwork has nothing but the cgroup to tell its traffic from everybody else's.
func nodeNetwork(t *testing.T, w *world) {
	port := freePort(t)
	host := []oci.SpecOpts{oci.WithHostNamespace(specs.NetworkNamespace), oci.WithAnnotations(noListener)}
	c := w.startWith(t, setup{args: []string{"serve", port}, spec: host})
	c.stdout.await(t, "serving")
	dial := func(_ context.Context, network, address string) (net.Conn, error) { return net.Dial(network, address) }
	callIt(t, dial, port)
	w.accounts(t, c.id, calls, 0)
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func twoApart(t *testing.T, w *world) {
	busy, idle := w.alone(t, noListener, "serve", ":8081"), w.alone(t, noListener, "serve", ":8081")
	busy.run(t, "serving")
	idle.run(t, "serving")
	callIt(t, busy.dialer(), "127.0.0.1:8081")
	w.accounts(t, busy.id, calls, 0)
	if r, err := w.reading(t, idle.id); err != nil || r.RxPackets+r.TxPackets+r.ConnectionsAccepted != 0 {
		t.Errorf("nobody has called: %+v, %v", r, err)
	}
	for _, c := range []*container{busy, idle} {
		c.kill(t, syscall.SIGKILL)
		c.wait(t)
	}
}

func accountAfterKill(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.alone(t, noListener, "serve", ":8081")
	c.run(t, "serving")
	callIt(t, c.dialer(), "127.0.0.1:8081")
	r := w.accounts(t, c.id, calls, 0)
	c.killShim(t)
	until("/tasks/exit")
	c.task.IO().Cancel()
	c.remove(t)
	if x := w.exitOf(t, c.id); conversed(x.Reading, calls, 0) != nil || x.CPU < r.CPU {
		t.Errorf("in the record: %+v, before: %+v", x, r)
	}
}

// redirectedKilled leaves nothing of its redirection either, which the caller of this case looks for.
func redirectedKilled(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.alone(t, map[string]string{"hachi.run/listen": "none", "hachi.run/redirect-outbound": "4140", "hachi.run/redirect-endpoint": "none"}, "serve", ":8081")
	c.run(t, "serving")
	callIt(t, c.dialer(), "127.0.0.1:8081")
	w.accounts(t, c.id, calls, 0)
	c.killShim(t)
	until("/tasks/exit")
	c.task.IO().Cancel()
	c.remove(t)
	if x := w.exitOf(t, c.id); conversed(x.Reading, calls, 0) != nil {
		t.Errorf("in the record: %+v", x)
	}
}

// accountOfNothing is that of a container whose guest never ran.
func accountOfNothing(t *testing.T, w *world) {
	c, err := w.tryCreate(t, setup{args: []string{"serve"}, spec: []oci.SpecOpts{oci.WithAnnotations(map[string]string{"hachi.run/listen": "203.0.113.1:80"})}})
	if err == nil {
		t.Fatal("it listens on somebody else's address")
	}
	book, err := ledger.Open(ledger.Dir)
	if err != nil {
		t.Fatal(err)
	}
	exits, err := book.Exited()
	if err != nil || slices.ContainsFunc(exits, func(x ledger.Exit) bool { return x.ID == c.id && x.Namespace == w.d.Mark() }) {
		t.Errorf("there is a record of a container that never was (%v)", err)
	}
}

// needBPF skips where the machine cannot count, and says why.
func needBPF(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	if err := observe.Load(t.Context(), ""); err != nil {
		t.Skip(err)
	}
}

// namespace is containerd's, as the context says.
func (w *world) namespace() string {
	if ns, ok := namespaces.Namespace(w.ctx); ok {
		return ns
	}
	return "k8s.io"
}
