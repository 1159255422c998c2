package artifact

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/hachi-run/hachi/runtime/memory"
	"github.com/hachi-run/hachi/runtime/preempt"
)

// bulkModule exports fill(to, byte, n) and copy(to, from, n) over a memory of 4096 pages.
var bulkModule = []byte(header + section(1, "\x01\x60\x03\x7f\x7f\x7f\x00") + section(3, "\x02\x00\x00") + section(5, "\x01\x00\x80\x20") +
	section(7, "\x03\x04fill\x00\x00\x04copy\x00\x01\x06memory\x02\x00") +
	section(10, "\x02\x0b\x00\x20\x00\x20\x01\x20\x02\xfc\x0b\x00\x0b\x0c\x00\x20\x00\x20\x01\x20\x02\xfc\x0a\x00\x00\x0b"))

const bulkMemory = 4096 << 16

// Large fills and copies do what they did in one piece, also where the two places overlap and where they do not fit.
func TestLargeFillsAndCopies(t *testing.T) {
	ctx := context.Background()
	plainRT := wazero.NewRuntimeWithConfig(ctx, compilerConfig())
	defer plainRT.Close(ctx)
	plain, err := plainRT.Instantiate(ctx, bulkModule)
	if err != nil {
		t.Fatal(err)
	}
	alloc := memory.New(0)
	rt, cm, err := Load(ctx, LoadOptions{Module: file(t, bulkModule), Memory: alloc, Log: noWarnings(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close(ctx)
	split, err := alloc.Instantiate(ctx, rt, cm, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	const page, piece, window = 4096, 64 << 10, 1 << 20
	// A pattern that repeats nowhere in the window shows every byte that is out of place.
	pattern := make([]byte, window)
	for i := range pattern {
		pattern[i] = byte(i ^ i>>8 ^ i>>16*7)
	}
	for _, m := range []api.Module{plain, split} {
		m.Memory().Write(0, pattern)
	}
	look := func(m api.Module) string {
		head, _ := m.Memory().Read(0, 2*window)
		tail, _ := m.Memory().Read(bulkMemory-window, window)
		return fmt.Sprintf("%x %x", sha256.Sum256(head), sha256.Sum256(tail))
	}
	for _, c := range []struct {
		call        string
		to, from, n uint64
	}{
		{"fill", 10, 'x', piece}, {"fill", 3, 'y', piece + 1}, {"fill", 100, 'z', 3*piece + 5}, {"fill", 0, 1, 4 * piece},
		{"fill", bulkMemory - 3*piece, 7, 3 * piece}, {"fill", bulkMemory - 3*piece, 8, 3*piece + 1}, {"fill", 1, 9, 0xffffffff},
		{"fill", 0xffffffff, 9, 0xffffffff}, {"fill", bulkMemory + 1, 9, piece + 1},
		{"copy", window, 0, piece + 1}, {"copy", page, 0, 5*piece + 7}, {"copy", 0, page, 5*piece + 7}, {"copy", 1, 0, 4 * piece}, {"copy", 0, 1, 4 * piece},
		{"copy", 3 * piece, 0, 3*piece + 1}, {"copy", 0, 2*piece + 3, 6 * piece}, {"copy", 77, 77, 3 * piece},
		{"copy", bulkMemory - 2*piece, 5, 2 * piece}, {"copy", bulkMemory - 2*piece, 6, 2*piece + 1}, {"copy", 6, bulkMemory - 2*piece, 2*piece + 1},
		{"copy", 0, 0xffff0000, 0x10001}, {"copy", 0, 1, 0xffffffff},
	} {
		_, want := plain.ExportedFunction(c.call).Call(ctx, c.to, c.from, c.n)
		_, got := split.ExportedFunction(c.call).Call(ctx, c.to, c.from, c.n)
		if firstLine(got) != firstLine(want) {
			t.Errorf("%s(%#x, %#x, %#x): %v, want %v", c.call, c.to, c.from, c.n, got, want)
		}
		if look(split) != look(plain) {
			t.Fatalf("%s(%#x, %#x, %#x): another memory", c.call, c.to, c.from, c.n)
		}
	}
}

// A guest that fills a great deal in one instruction is interrupted in the middle.
func TestLargeFillYields(t *testing.T) {
	ctx := context.Background()
	yields := 0
	alloc := memory.New(0)
	rt, cm, err := Load(ctx, LoadOptions{Module: file(t, bulkModule), Memory: alloc, Log: noWarnings(t), Preempt: preempt.Options{
		Period: 100 * time.Microsecond, Yield: func(context.Context, api.Module) { yields++ },
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close(ctx)
	m, err := alloc.Instantiate(ctx, rt, cm, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	// Fresh memory, of which no machine clears 256 MiB within two ticks.
	if _, err := m.ExportedFunction("fill").Call(ctx, 0, 1, bulkMemory); err != nil {
		t.Fatal(err)
	}
	if yields < 3 {
		t.Errorf("%d yields", yields)
	}
}
