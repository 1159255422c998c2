package wasi

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestUnstable: a guest of snapshot 0 finds the records and numbers of its time.
func TestUnstable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "same")); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1_000_000_000, 5)
	if err := os.Chtimes(filepath.Join(dir, "file"), when, when.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	g := newRawOf(t, UnstableName, Options{Stdin: r, Preopens: []Preopen{{Guest: "/", Dir: openDir(t, dir)}}}, nil)
	fd, e := g.open(3, "file", 0, 0, 0)
	if e != success {
		t.Fatalf("open: errno %d", e)
	}

	type filestat struct {
		Type                uint8
		Links               uint32
		Size, Atime, Mtime  uint64
		BehindTheRecordByte byte
	}
	want := filestat{uint8(typeRegularFile), 2, 10, uint64(when.UnixNano()), uint64(when.Add(time.Second).UnixNano()), 0xee}
	stat := func(call func()) filestat {
		g.put(atData+unstableFilestatSize, []byte{0xee})
		call()
		b, le := g.bytes(atData, unstableFilestatSize+1), binary.LittleEndian
		return filestat{b[16], le.Uint32(b[20:]), le.Uint64(b[24:]), le.Uint64(b[32:]), le.Uint64(b[40:]), b[unstableFilestatSize]}
	}
	if diff := cmp.Diff(want, stat(func() { g.ok("fd_filestat_get", fd, atData) })); diff != "" {
		t.Error(diff)
	}
	p, n := g.path(atPath, "same")
	if diff := cmp.Diff(want, stat(func() { g.ok("path_filestat_get", 3, 0, p, n, atData) })); diff != "" {
		t.Error(diff)
	}

	for _, c := range []struct{ offset, whence, at uint64 }{{4, 2, 4}, {2, 0, 6}, {1<<64 - 3, 1, 7}} {
		g.ok("fd_seek", fd, c.offset, c.whence, atResult)
		if at := g.u64(atResult); at != c.at {
			t.Errorf("seek by %d from %d: at %d, want %d", int64(c.offset), c.whence, at, c.at)
		}
	}
	g.want(eInval, "fd_seek", fd, 0, 3, atResult)

	le := binary.LittleEndian
	clock := make([]byte, 56)
	le.PutUint64(clock, 1)
	le.PutUint64(clock[16:], 99) // its name
	le.PutUint32(clock[24:], clockMonotonic)
	le.PutUint64(clock[32:], uint64(time.Hour))
	stdin := make([]byte, 56)
	le.PutUint64(stdin, 2)
	stdin[8] = eventFdRead
	events := g.poll(clock, stdin)
	if diff := cmp.Diff([]event{{Userdata: 2, Type: eventFdRead, Bytes: 1}}, events); diff != "" {
		t.Error(diff)
	}
	le.PutUint64(clock[32:], uint64(time.Millisecond))
	if diff := cmp.Diff([]event{{Userdata: 1}}, g.poll(clock)); diff != "" {
		t.Error(diff)
	}
}

// TestBothSnapshots: one guest may import from both, as libraries of different age do.
func TestBothSnapshots(t *testing.T) {
	for _, c := range []struct{ module, name, shape string }{
		{ModuleName, "fd_seek", "iIii"}, {UnstableName, "fd_seek", "iIii"}, {UnstableName, "fd_write", "iiii"},
	} {
		if _, err := find(c.module, c.name, c.shape); err != nil {
			t.Error(err)
		}
	}
	if _, err := find(UnstableName, "fd_seek", "iiii"); err == nil {
		t.Error("a shape that snapshot 0 does not have was accepted")
	}
}
