package observe_test

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sync/errgroup"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// rounds is for what is slow in the virtual machine, where each new process takes a second.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// files lists what is pinned below a layout's sub-directory.
func files(t testing.TB, root, sub string) (names []string) {
	t.Helper()
	dir := filepath.Join(root, pin.Version, sub)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && path != dir {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// links counts the kernel's links to the programs pinned below root.
func links(t testing.TB, root string) (n int) {
	t.Helper()
	ours := map[ebpf.ProgramID]bool{}
	for _, name := range files(t, root, "prog") {
		p, err := ebpf.LoadPinnedProgram(filepath.Join(root, pin.Version, "prog", name), nil)
		if err != nil {
			continue // a directory
		}
		if info, err := p.Info(); err == nil {
			id, _ := info.ID()
			ours[id] = true
		}
		p.Close()
	}
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		if info, err := it.Link.Info(); err == nil && ours[info.Program] {
			n++
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// kept counts the cgroups whose counters the kernel still keeps.
func kept(t testing.TB, root string) (n int) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(root, pin.Version, "map", "hachi_counters"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var key any
	for next := uint64(0); ; n++ {
		err := m.NextKey(key, &next)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		key = next
	}
}

func TestThousandPodsLeaveNothing(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	o := openAt(t, root)
	parent := bpfenv.Cgroup(t)
	maps := files(t, root, "map")
	for range rounds(1000) {
		dir := bpfenv.CgroupBelow(t, parent)
		id, err := o.Attach(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Detach(id); err != nil {
			t.Fatal(err)
		}
		bpfenv.RemoveCgroup(t, dir)
	}
	if n := links(t, root); n != 0 {
		t.Errorf("%d links are left", n)
	}
	if left := files(t, root, "pod"); len(left) != 0 {
		t.Errorf("pins are left: %v", left)
	}
	if after := files(t, root, "map"); len(after) != len(maps) {
		t.Errorf("maps before %v, after %v", maps, after)
	}
	// The kernel frees a cgroup's storage some time after the cgroup.
	bpfenv.Eventually(t, "the counters to go with their cgroups", func() bool { return kept(t, root) == 0 })
}

func TestAttachTwiceIsOnce(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	first, second := openAt(t, root), openAt(t, root)
	pod := bpfenv.NewPod(t, bpfenv.NewNetns(t))
	var both errgroup.Group
	for _, o := range []*observe.Observer{first, second, first, second} {
		both.Go(func() error { _, err := o.Attach(pod.Cgroup); return err })
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := links(t, root); n != len(account.Set.Hooks) {
		t.Errorf("%d links, want %d", n, len(account.Set.Hooks))
	}
	l := pod.Listen(t, bpfenv.Free(loopback4))
	c, s := bpfenv.Pair(t, pod, l)
	bpfenv.Exchange(t, c, s, 10, 10)
	if got, err := first.Read(pod.ID); err != nil || got.Opened != 1 {
		t.Errorf("opened %d, %v; want 1", got.Opened, err)
	}
	before, err := second.Detach(pod.ID)
	if err != nil || before.TxBytes == 0 {
		t.Fatalf("%+v, %v", before.Traffic, err)
	}
	// A new attachment counts anew.
	if _, err := first.Attach(pod.Cgroup); err != nil {
		t.Fatal(err)
	}
	if got, err := first.Detach(pod.ID); err != nil || got != (account.Counters{}) {
		t.Errorf("attached again without traffic: %+v, %v", got, err)
	}
}

// traffic makes connections back and forth until stop, which returns when all of them have ended in order.
func traffic(t *testing.T, w *world) (stop func()) {
	t.Helper()
	l := w.server.Listen(t, bpfenv.Free(w.wire.B4))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			err = bpfenv.Talk(w.client, l, 1000, 5000)
		}
		ended <- err
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// exact compares what was counted since the beginning with the kernel's figures.
func exact(t *testing.T, w *world, before bpfenv.Figures) {
	t.Helper()
	k, got := w.client.Netns.Figures(t).Sub(before), w.read(t, w.client)
	if got.TxBytes != k["IpExtOutOctets"] || got.RxBytes != k["IpExtInOctets"] || got.Opened != k["TcpActiveOpens"] || got.Open != 0 {
		t.Errorf("tx %d, rx %d, opened %d, open %d; the kernel: %d, %d, %d, 0", got.TxBytes, got.RxBytes, got.Opened, got.Open,
			k["IpExtOutOctets"], k["IpExtInOctets"], k["TcpActiveOpens"])
	}
	if got.Opened == 0 {
		t.Error("there was no traffic")
	}
}

// The owner is killed at any moment, also while it attaches; another one takes over.
func TestOwnerIsKilled(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	w := &world{o: openAt(t, root)}
	a, b := bpfenv.NewNetns(t), bpfenv.NewNetns(t)
	w.wire = bpfenv.Veth(t, a, b)
	w.client, w.server = bpfenv.NewPod(t, a), bpfenv.NewPod(t, b)

	var before bpfenv.Figures
	var last account.Counters
	var stop func()
	for i := range rounds(100) {
		owner := inRole("owner", root, w.client.Cgroup)
		out, err := owner.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := owner.Start(); err != nil {
			t.Fatal(err)
		}
		said := false
		if i < 2 || i%2 == 0 {
			line, _ := bufio.NewReader(out).ReadString('\n')
			if said = line == "attached\n"; !said {
				t.Fatalf("owner said %q", line)
			}
		}
		if i == 0 {
			before = a.Figures(t)
			stop = traffic(t, w)
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		_ = owner.Process.Signal(syscall.SIGKILL)
		_ = owner.Wait()
		now := w.read(t, w.client)
		if back := last.Sub(now); back != (account.Counters{Open: back.Open}) {
			t.Errorf("round %d: counters went backwards by %+v", i, back)
		}
		last = now
	}
	stop()
	exact(t, w, before)
	if n := links(t, root); n != len(account.Set.Hooks) {
		t.Errorf("%d links, want %d", n, len(account.Set.Hooks))
	}
	if _, err := w.o.Detach(w.client.ID); err != nil {
		t.Error(err)
	}
}

// another returns a set of this build as another build has it: the same programs by another name.
func another(s pin.Set, n byte) pin.Set {
	s.Object = append(slices.Clone(s.Object), n)
	return s
}

// During traffic the programs are replaced again and again, as upgrades do.
func TestProgramsAreReplaced(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	w := &world{o: openAt(t, root)}
	a, b := bpfenv.NewNetns(t), bpfenv.NewNetns(t)
	w.wire = bpfenv.Veth(t, a, b)
	w.client, w.server = bpfenv.NewPod(t, a), bpfenv.NewPod(t, b)
	attach(t, w.o, w.client)
	layout, err := pin.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	before := a.Figures(t)
	stop := traffic(t, w)
	id := linked(t, root, w.client.ID)
	for i := range rounds(30) {
		for _, set := range []pin.Set{account.Set, flow.Set} {
			if err := layout.Load(t.Context(), another(set, byte(i))); err != nil {
				t.Fatal(err)
			}
		}
		now := linked(t, root, w.client.ID)
		if now == id {
			t.Fatalf("build %d: the link still has program %d", i, id)
		}
		id = now
	}
	stop()
	exact(t, w, before)
	if builds, err := filepath.Glob(filepath.Join(root, pin.Version, "prog", "account-*")); err != nil || len(builds) != 1 {
		t.Errorf("builds pinned: %v, %v; want the last alone", builds, err)
	}
	// Who only reads need not be of the build that is loaded.
	if opened, records := w.read(t, w.client).Opened, len(w.recent(t, w.client)); uint64(records) != min(opened, 4096) {
		t.Errorf("%d records of %d connections", records, opened)
	}
	// This build comes back.
	again := openAt(t, root)
	if linked(t, root, w.client.ID) == id {
		t.Error("the link still has a program of another build")
	}
	exact(t, w, before)
	if _, err := again.Attach(w.client.Cgroup); err != nil {
		t.Error(err)
	}
	exact(t, w, before)
}

// A kernel that does not take the flows' programs counts all the same, and is not asked twice.
func TestAccountingWithoutFlows(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	asked, spec := 0, flow.Set.Spec
	flow.Set.Spec = func() (*ebpf.CollectionSpec, error) { asked++; return nil, errors.New("on purpose") }
	defer func() { flow.Set.Spec = spec }()
	openAt(t, root)
	o := openAt(t, root)
	if asked != 1 {
		t.Errorf("tried %d times, want once", asked)
	}
	pod := bpfenv.NewPod(t, bpfenv.NewNetns(t))
	attach(t, o, pod)
	c, s := bpfenv.Pair(t, pod, pod.Listen(t, bpfenv.Free(loopback4)))
	bpfenv.Exchange(t, c, s, 100, 100)
	if got, err := o.Read(pod.ID); err != nil || got.Opened != 1 {
		t.Errorf("opened %d, %v", got.Opened, err)
	}
	if _, err := o.Recent(); !errors.Is(err, observe.ErrUnsupported) {
		t.Errorf("recent: %v", err)
	}
	if err := o.Follow(t.Context(), func(flow.Record) {}); !errors.Is(err, observe.ErrUnsupported) {
		t.Errorf("follow: %v", err)
	}
	if _, err := o.Lost(); !errors.Is(err, observe.ErrUnsupported) {
		t.Errorf("lost: %v", err)
	}
}

// linked is the program of a pod's first link.
func linked(t testing.TB, root string, id uint64) ebpf.ProgramID {
	t.Helper()
	layout, err := pin.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := link.LoadPinnedLink(layout.Link(id, account.Set.Hooks[0].Name), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	info, err := ln.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.Program
}

func TestCollect(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	o := openAt(t, root)
	living, gone, unknown := bpfenv.Cgroup(t), bpfenv.Cgroup(t), bpfenv.Cgroup(t)
	ids := map[string]uint64{}
	for _, dir := range []string{living, gone, unknown} {
		id, err := o.Attach(dir)
		if err != nil {
			t.Fatal(err)
		}
		ids[dir] = id
	}
	bpfenv.RemoveCgroup(t, gone)
	var removed []uint64
	bpfenv.Eventually(t, "the kernel to let go of the cgroup", func() bool {
		var err error
		if removed, err = o.Collect(nil); err != nil {
			t.Fatal(err)
		}
		return len(removed) > 0
	})
	if len(removed) != 1 || removed[0] != ids[gone] {
		t.Errorf("removed %v, want %v alone", removed, ids[gone])
	}
	removed, err := o.Collect(func(id uint64) bool { return id == ids[living] })
	if err != nil || len(removed) != 1 || removed[0] != ids[unknown] {
		t.Errorf("removed %v, %v; want %v alone", removed, err, ids[unknown])
	}
	if n := links(t, root); n != len(account.Set.Hooks) {
		t.Errorf("%d links, want those of the living, %d", n, len(account.Set.Hooks))
	}
	if _, err := o.Detach(ids[unknown]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("detach of what was collected: %v", err)
	}
	if _, err := o.Detach(ids[living]); err != nil {
		t.Error(err)
	}
}

// A detach that comes after the cgroup went cannot read, but tidies.
func TestDetachAfterTheCgroup(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	o := openAt(t, root)
	cgroup := bpfenv.Cgroup(t)
	id, err := o.Attach(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	bpfenv.RemoveCgroup(t, cgroup)
	bpfenv.Eventually(t, "the counters to go", func() bool { _, err := o.Read(id); return err != nil })
	if _, err := o.Detach(id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want the counters' absence", err)
	}
	if left := files(t, root, "pod"); len(left) != 0 {
		t.Errorf("pins are left: %v", left)
	}
}

func TestManyOpenAtOnce(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	if _, err := observe.OpenExisting(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open before anything was loaded: %v", err)
	}
	var all errgroup.Group
	for range 4 {
		all.Go(func() error {
			o, err := observe.Open(t.Context(), observe.Options{Root: root})
			if err != nil {
				return err
			}
			return o.Close()
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if builds := files(t, root, "prog"); len(builds) != 2+3+4 {
		t.Errorf("pinned: %v; want two directories with accounting's three programs and flows' four", builds)
	}
	o, err := observe.OpenExisting(root)
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
}

// A loader that is killed leaves nothing that keeps the next from its work.
func TestLoaderIsKilled(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	for range rounds(20) {
		loader := inRole("loader", root)
		if err := loader.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(150 * time.Millisecond))
		_ = loader.Process.Kill()
		_ = loader.Wait()
	}
	o := openAt(t, root)
	pod := bpfenv.NewPod(t, bpfenv.NewNetns(t))
	attach(t, o, pod)
	if _, err := o.Recent(); err != nil {
		t.Error(err)
	}
	for _, name := range files(t, root, "prog") {
		if strings.HasSuffix(name, "-half") {
			t.Errorf("left half done: %s", name)
		}
	}
}

// The loader is another process: this one asks for it only if it is needed.
func TestLoaderRunsOnce(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	ran := 0
	options := observe.Options{Root: root, Loader: func(ctx context.Context) error {
		ran++
		return inRole("loader", root).Run()
	}}
	for range 2 {
		o, err := observe.Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		o.Close()
	}
	if ran != 1 {
		t.Errorf("the loader ran %d times, want once", ran)
	}
	broken := observe.Options{Root: filepath.Join(bpfenv.BPFFS(t), "hachi"), Loader: func(context.Context) error { return errors.New("on purpose") }}
	if _, err := observe.Open(t.Context(), broken); !errors.Is(err, observe.ErrUnsupported) || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("a loader that fails: %v", err)
	}
}

func TestOpenWithoutPrivilege(t *testing.T) {
	root := filepath.Join(bpfenv.BPFFS(t), "hachi")
	exe, err := os.Open("/proc/self/exe") // which may lie where that user cannot look
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := inRole("opener", root)
	cmd.Path = "/proc/self/fd/3"
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{exe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("%v: %s", err, out)
	}
	want := "true eBPF accounting is not possible here: this process has no CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN (run as root)\n"
	if got := string(out); got != want {
		t.Errorf("an ordinary user is told: %swant: %s", got, want)
	}
}
