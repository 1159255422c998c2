package layout

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// buffer is a file in memory.
type buffer struct{ b []byte }

func (w *buffer) WriteAt(p []byte, off int64) (int, error) {
	if n := int(off) + len(p); n > len(w.b) {
		w.b = append(w.b, make([]byte, n-len(w.b))...)
	}
	return copy(w.b[off:], p), nil
}

func sample(tb testing.TB) []byte {
	tb.Helper()
	out := new(buffer)
	w := NewWriter(out, [32]byte{1})
	for k, s := range map[Kind]string{Stub: "stub", Code: strings.Repeat("code", 5000), Tail: "", Image: "image"} {
		if err := w.Add(k, []byte(s)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Finish(DataImage); err != nil {
		tb.Fatal(err)
	}
	h, err := ReadHeader(bytes.NewReader(out.b), int64(len(out.b)))
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.Seal(out, Key("digest")); err != nil {
		tb.Fatal(err)
	}
	return out.b
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	b := sample(t)
	r := bytes.NewReader(b)
	h, err := ReadHeader(r, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if h.Key != Key("digest") || h.Module != [32]byte{1} || h.Flags != DataImage {
		t.Errorf("header %+v", h)
	}
	for k, want := range map[Kind]string{Stub: "stub", Code: strings.Repeat("code", 5000), Tail: "", Image: "image", Symbols: ""} {
		if got, err := h.Read(r, k); err != nil || string(got) != want {
			t.Errorf("section %d: %.10q, %v", k, got, err)
		}
	}
	if len(b)%Align != 0 || h.Span(Code).Off%Align != 0 || h.Span(Image).Off%Align != 0 {
		t.Errorf("not aligned: %d bytes, %+v", len(b), h)
	}
	if err := h.Verify(r); err != nil {
		t.Error(err)
	}
	w := NewWriter(new(buffer), [32]byte{})
	if err := errors.Join(w.Add(Stub, nil), w.Add(Stub, nil)); err == nil {
		t.Error("the same section twice")
	}
}

// Every single changed byte is found, but for padding, which nobody reads.
func TestEveryChangeIsFound(t *testing.T) {
	good := sample(t)
	h, _ := ReadHeader(bytes.NewReader(good), int64(len(good)))
	covered := func(at int) bool {
		for _, s := range h.spans {
			if int64(at) >= s.Off && int64(at) < s.Off+s.Len {
				return true
			}
		}
		return at < HeaderSize
	}
	b := bytes.Clone(good)
	for at := range b {
		if !covered(at) || (at > HeaderSize && at%7 != 0) {
			continue
		}
		b[at] ^= 0x40
		if err := check(b); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) {
			t.Errorf("byte %d: %v", at, err)
		}
		b[at] = good[at]
	}
	for _, n := range []int{0, 1, HeaderSize - 1, HeaderSize, len(good) / 2, len(good) - 1} {
		if err := check(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
}

func check(b []byte) error {
	h, err := ReadHeader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	return h.Verify(bytes.NewReader(b))
}

type broken struct{}

var errDisk = errors.New("disk")

func (broken) ReadAt([]byte, int64) (int, error)  { return 0, errDisk }
func (broken) WriteAt([]byte, int64) (int, error) { return 0, errDisk }

func TestErrorsOfTheDiskAreNotCorruption(t *testing.T) {
	if _, err := ReadHeader(broken{}, 1); !errors.Is(err, errDisk) || errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	b := sample(t)
	h, _ := ReadHeader(bytes.NewReader(b), int64(len(b)))
	if err := h.Verify(broken{}); !errors.Is(err, errDisk) {
		t.Error(err)
	}
	if _, err := h.Read(broken{}, Stub); !errors.Is(err, errDisk) {
		t.Error(err)
	}
	w := NewWriter(broken{}, [32]byte{})
	if err := w.Add(Stub, []byte("x")); !errors.Is(err, errDisk) {
		t.Error(err)
	}
	if err := w.Finish(0); !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

func TestKeysDiffer(t *testing.T) {
	if Key("a") == Key("b") || Key("") == Key("a") {
		t.Error("different digests, same key")
	}
}

// FuzzHeader gives every header a right checksum, so that the checks behind it are reached.
func FuzzHeader(f *testing.F) {
	f.Add(sample(f)[:HeaderSize], int64(1<<20))
	f.Fuzz(func(t *testing.T, page []byte, size int64) {
		if len(page) < HeaderSize {
			return
		}
		page = page[:HeaderSize]
		sum := Sum(page[:HeaderSize-4])
		page[HeaderSize-4], page[HeaderSize-3], page[HeaderSize-2], page[HeaderSize-1] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		h, err := parseHeader(page, size)
		if err != nil {
			return
		}
		for k := range Kind(numKinds + 1) {
			if s := h.Span(k); s.Off < 0 || s.Len < 0 || s.Off+s.Len > size {
				t.Errorf("section %d outside: %+v of %d", k, s, size)
			}
		}
		_ = h.Verify(io.NewSectionReader(bytes.NewReader(page), 0, HeaderSize))
	})
}
