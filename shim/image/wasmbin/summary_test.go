package wasmbin

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample imports fd_write and proc_exit's sibling, exports memory and _start, and names its producer.
var sample = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x0c\x02\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\x60\x00\x00" +
	"\x02\x23\x01\x16wasi_snapshot_preview1\x08fd_write\x00\x00" +
	"\x03\x02\x01\x01" +
	"\x05\x04\x01\x01\x01\x10" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x01" +
	"\x0a\x04\x01\x02\x00\x0b" +
	"\x00\x1c\x09producers\x01\x08language\x01\x02Go\x031.0")

func TestRead(t *testing.T) {
	got, err := Read(bytes.NewReader(sample), int64(len(sample)))
	if err != nil {
		t.Fatal(err)
	}
	want := &Summary{
		Size: int64(len(sample)), WASI: "preview1", Functions: 1,
		Imports:   []Import{{"wasi_snapshot_preview1", "fd_write", "func", "(i32, i32, i32, i32) -> i32"}},
		Exports:   []Export{{"memory", "memory"}, {"_start", "func"}},
		Memories:  []Memory{{Min: 1, Max: 16}},
		Producers: []Producer{{"language", "Go", "1.0"}},
		Sections: []Section{{"type", 12}, {"import", 35}, {"function", 2}, {"memory", 4}, {"export", 19}, {"code", 4},
			{`custom "producers"`, 28}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.Exported("_start") || got.Exported("memory") || !cmp.Equal(got.Hosts(), []string{"wasi_snapshot_preview1"}) {
		t.Error("Exported or Hosts disagree with the summary")
	}
}

// Every proper prefix is refused, except those that end where a section ends and leave no function
// without code; after the code section that is unavoidable.
func TestTruncationIsFound(t *testing.T) {
	code := bytes.Index(sample, []byte("\x0a\x04\x01")) + 6
	imports := bytes.Index(sample, []byte("\x03\x02\x01\x01"))
	whole := map[int]bool{8: true, 8 + 14: true, imports: true, code: true}
	for n := range sample {
		_, err := Read(bytes.NewReader(sample[:n]), int64(n))
		if (err == nil) != whole[n] {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
}

func TestOtherForms(t *testing.T) {
	for text, says := range map[string]string{
		"":                                "unknown form",
		"\x00as":                          "unknown form",
		"\x00asm\x01\x00":                 "truncated",
		"\x00asm\x0d\x00\x01\x00":         "component",
		"\x00asm\x02\x00\x00\x00":         "unknown version",
		"\x7fELF\x02\x01\x01\x00":         "ELF",
		"#!/bin/sh\n":                     "script",
		"\x00asm\x01\x00\x00\x00\x63\x00": "unknown id",
		string(sample) + "\x01\x01\x00":   "out of order",
		"\x00asm\x01\x00\x00\x00\x03\x80": "ends early",
		"\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\xff": "exceeds 32 bits",
	} {
		if _, err := Read(strings.NewReader(text), int64(len(text))); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", text, err, says)
		}
	}
}

// A module that a real compiler made.
func TestReadGoProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() { println(1) }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "app.wasm")
	build := exec.Command("go", "build", "-o", out, "main.go")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if s.WASI != "preview1" || !s.Exported("_start") || len(s.Memories) != 1 || s.Functions < 100 || len(s.Producers) == 0 {
		t.Errorf("got WASI %q, %d functions, memories %v, producers %v", s.WASI, s.Functions, s.Memories, s.Producers)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sample)
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x02\x0a\x01\x01a\x01b\x02\x07\x01\x01\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Read(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		total := int64(HeadSize)
		for _, section := range s.Sections {
			total += section.Size
		}
		if total > int64(len(raw)) || Sniff(raw) != Module {
			t.Errorf("sections of %d bytes in a file of %d", total, len(raw))
		}
	})
}
