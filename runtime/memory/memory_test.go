package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tetratelabs/wazero"
)

func TestMain(m *testing.M) {
	if os.Getenv("HACHI_TEST_RLIMIT_AS") != "" {
		os.Exit(underAddressLimit())
	}
	goleak.VerifyTestMain(m)
}

// module has one memory of 2 pages without maximum, exported, and grow(i32) -> i32.
var module = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x06\x01\x60\x01\x7f\x01\x7f" +
	"\x03\x02\x01\x00" +
	"\x05\x03\x01\x00\x02" +
	"\x07\x11\x02\x04grow\x00\x00\x06memory\x02\x00" +
	"\x0a\x08\x01\x06\x00\x20\x00\x40\x00\x0b")

const wasmPage = 64 << 10

func TestGrowFailsAtTheLimitAndWorksWhenItMoves(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	cm, err := rt.CompileModule(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	a := New(10 * wasmPage)
	m, err := a.Instantiate(ctx, rt, cm, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	grow := func(pages uint64) int32 {
		t.Helper()
		r, err := m.ExportedFunction("grow").Call(ctx, pages)
		if err != nil {
			t.Fatal(err)
		}
		return int32(r[0])
	}
	if got := grow(8); got != 2 {
		t.Errorf("grow to the limit: %d, want 2", got)
	}
	if !m.Memory().WriteUint32Le(10*wasmPage-4, 0xcafe) {
		t.Error("last word is not writable")
	}
	if !a.Refused().IsZero() {
		t.Error("refused before the limit")
	}
	if got := grow(1); got != -1 {
		t.Errorf("grow beyond the limit: %d, want -1", got)
	}
	if a.Refused().IsZero() {
		t.Error("the refusal is not told")
	}
	a.SetLimit(11 * wasmPage)
	if got := grow(1); got != 10 {
		t.Errorf("grow after the limit moved: %d, want 10", got)
	}
	a.SetLimit(wasmPage)
	if got := grow(1); got != -1 {
		t.Errorf("grow after the limit fell: %d, want -1", got)
	}
	if v, _ := m.Memory().ReadUint32Le(10*wasmPage - 4); v != 0xcafe {
		t.Errorf("content changed to %#x", v)
	}
	if now, peak := a.Usage(); now != 11*wasmPage || peak != now {
		t.Errorf("usage %d, peak %d, want %d", now, peak, 11*wasmPage)
	}
	m.Close(ctx)
	if now, _ := a.Usage(); now != 0 {
		t.Errorf("usage %d after close", now)
	}
}

func TestMemoriesShareTheLimit(t *testing.T) {
	a := New(4 * wasmPage)
	one, two := a.Allocate(0, 8*wasmPage), a.Allocate(0, 8*wasmPage)
	defer one.Free()
	if len(one.Reallocate(3*wasmPage)) != 3*wasmPage || len(two.Reallocate(wasmPage)) != wasmPage {
		t.Fatal("initial sizes")
	}
	if two.Reallocate(2*wasmPage) != nil {
		t.Error("the second memory got what the first holds")
	}
	two.Free()
	if len(one.Reallocate(4*wasmPage)) != 4*wasmPage {
		t.Error("freed memory is not available")
	}
}

func TestInitialMemoryBeyondTheLimitIsAnError(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	cm, err := rt.CompileModule(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	a := New(wasmPage)
	if _, err := a.Instantiate(ctx, rt, cm, wazero.NewModuleConfig()); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v, want ErrLimit", err)
	}
	if a.Refused().IsZero() {
		t.Error("the refusal is not told")
	}
	a.SetLimit(0)
	if _, err := a.Instantiate(ctx, rt, cm, wazero.NewModuleConfig()); err != nil {
		t.Errorf("without limit: %v", err)
	}
}

func TestImageFillsMemory(t *testing.T) {
	a := New(0)
	a.SetImage(func(mem []byte) error { copy(mem, "image"); return nil })
	m := a.Allocate(0, 4*wasmPage)
	defer m.Free()
	if b := m.Reallocate(wasmPage); string(b[:5]) != "image" {
		t.Errorf("got %q", b[:5])
	}
	a.SetImage(func([]byte) error { return errors.New("no disk") })
	defer func() {
		if r, ok := recover().(*refusal); !ok || !strings.Contains(r.err.Error(), "no disk") {
			t.Errorf("got %v", r)
		}
	}()
	a.Allocate(0, wasmPage).Reallocate(wasmPage)
}

func TestUntouchedMemoryCostsNothing(t *testing.T) {
	before := resident(t)
	a := New(0)
	var all []interface{ Free() }
	for range 50 {
		m := a.Allocate(0, 4<<30)
		b := m.Reallocate(256 << 20)
		b[0], b[len(b)-1] = 1, 1
		all = append(all, m)
	}
	if grown := resident(t) - before; grown > 4<<20 {
		t.Errorf("50 memories of 256 MiB with two touched pages each: %d KiB resident", grown>>10)
	}
	for _, m := range all {
		m.Free()
	}
}

func resident(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, rss int
	if _, err := fmt.Sscan(string(b), &size, &rss); err != nil {
		t.Fatal(err)
	}
	return rss * os.Getpagesize()
}

// Address space is limited per process, so this runs in a child.
func TestLimitedAddressSpace(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "HACHI_TEST_RLIMIT_AS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func underAddressLimit() int {
	statm, _ := os.ReadFile("/proc/self/statm")
	var pages uint64
	fmt.Sscan(string(statm), &pages)
	limit := pages*pageSize + 512<<20
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		fmt.Println(err)
		return 1
	}
	a := New(0)
	m := a.Allocate(0, 4<<30)
	b := m.Reallocate(2 * wasmPage)
	copy(b, "kept")
	got := 0
	for size := uint64(64 << 20); ; size += 32 << 20 {
		b = m.Reallocate(size)
		if b == nil {
			break
		}
		got = len(b)
		b[len(b)-1] = 1
		if string(b[:4]) != "kept" {
			fmt.Println("content lost at", size)
			return 1
		}
	}
	if got < 128<<20 || a.Refused().IsZero() {
		fmt.Println("grew only to", got, "refused", a.Refused())
		return 1
	}
	m.Free()
	return 0
}
