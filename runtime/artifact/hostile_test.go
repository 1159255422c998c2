package artifact

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

const header = "\x00asm\x01\x00\x00\x00"

// section frames a section body.
func section(id byte, body string) string {
	return string(binary.AppendUvarint([]byte{id}, uint64(len(body)))) + body
}

func leb(n uint64) string { return string(binary.AppendUvarint(nil, n)) }

// function is a module with one function () -> () with the body given.
func function(body string) string {
	return header + section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") + section(10, "\x01"+leb(uint64(len(body)))+body)
}

func TestHostileModulesAreRefusedCheaply(t *testing.T) {
	const huge = "\xff\xff\xff\xff\x0f" // 2^32-1
	for name, c := range map[string]struct{ wasm, says string }{
		"empty":                 {"", "not a WebAssembly module"},
		"not wasm":              {"#!/bin/sh\nexit 0\n", "not a WebAssembly module"},
		"text form":             {"\n(module)", "wat2wasm"},
		"component":             {"\x00asm\x0d\x00\x01\x00", "component"},
		"other version":         {"\x00asm\x02\x00\x00\x00", "version"},
		"section cut short":     {header + "\x01\x10\x01", "damaged or cut short"},
		"unknown section":       {header + section(14, ""), "section 14"},
		"repeated section":      {header + section(1, "\x00") + section(1, "\x00"), "repeated"},
		"sections out of order": {header + section(3, "\x00") + section(1, "\x00"), "order"},
		"huge types":            {header + section(1, huge), "types"},
		"huge rec group":        {header + section(1, "\x01\x4e"+huge), "types"},
		"huge arity":            {header + section(1, "\x01\x60"+huge), "parameters"},
		"huge imports":          {header + section(2, huge), "imports"},
		"huge functions":        {header + section(3, huge), "functions"},
		"huge tables":           {header + section(4, huge), "tables"},
		"huge table":            {header + section(4, "\x01\x70\x00\xff\xff\xff\x3f"), "tables of"},
		"huge globals":          {header + section(6, huge), "globals"},
		"huge exports":          {header + section(7, huge), "exports"},
		"huge elements":         {header + section(9, huge), "elements"},
		"huge element":          {header + section(9, "\x01\x00\x41\x00\x0b"+huge), "element items"},
		"huge code":             {header + section(10, huge), "bodies"},
		"huge data":             {header + section(11, huge), "data"},
		"huge segment":          {header + section(11, "\x01\x01"+huge), "truncated"},
		"huge locals":           {function("\x01" + huge + "\x7f\x0b"), "locals"},
		"many huge locals":      {function("\x02\xff\xff\x02\x7f\xff\xff\x02\x7f\x0b"), "locals"},
		"endless number":        {header + section(1, strings.Repeat("\x80", 100)), "32 bits"},
		"body too long":         {header + section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") + section(10, "\x01"+huge), "exceeds"},
		"type mismatch":         {function("\x00\x41\x00\x0b"), "rebuild"},
		"code without function": {header + section(10, "\x01\x02\x00\x0b"), "inconsistent"},
		"data without memory":   {header + section(11, "\x01\x00\x41\x00\x0b\x01x"), "unknown memory"},
		"nested too deep":       {function("\x00" + strings.Repeat("\x02\x40", 60_000) + strings.Repeat("\x0b", 60_001)), "nest"},
		"too many names": {header + section(1, "\x01\x60\x00\x00") + section(3, leb(50_000)+strings.Repeat("\x00", 50_000)) +
			section(7, leb(50_000)+strings.Repeat("\x00\x00\x00", 50_000)), "exports of"},
	} {
		t.Run(name, func(t *testing.T) {
			f := file(t, []byte(c.wasm))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			err := Compile(context.Background(), f, file(t, nil))
			_, _, lerr := Load(context.Background(), LoadOptions{Module: f})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			for _, err := range []error{err, lerr} {
				if !errors.Is(err, ErrBadModule) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want ErrBadModule that says %q", err, c.says)
				}
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 || took > 5*time.Second {
				t.Errorf("allocated %d MiB in %v", n>>20, took)
			}
		})
	}
}

func TestTooLargeAModuleIsNotRead(t *testing.T) {
	f := file(t, []byte(header))
	if err := f.Truncate(MaxModule + 1); err != nil {
		t.Fatal(err)
	}
	if err := Compile(context.Background(), f, file(t, nil)); !errors.Is(err, ErrBadModule) {
		t.Errorf("got %v", err)
	}
}

func TestDeepNestingCompiles(t *testing.T) {
	const depth = 10_000
	wasm := function("\x00" + strings.Repeat("\x02\x40", depth) + strings.Repeat("\x0b", depth+1))
	start := time.Now()
	if err := Compile(context.Background(), file(t, []byte(wasm)), file(t, nil)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("%d nested blocks take %v", depth, took)
	}
}

func TestCompileEndsWithItsContext(t *testing.T) {
	module := open(t, guest(t, "http"))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := Compile(ctx, module, file(t, nil))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrBadModule) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 20*time.Second { // validation, which comes first, cannot be interrupted
		t.Errorf("took %v", took)
	}
}

// file returns a file with the content given.
func file(tb testing.TB, content []byte) *os.File {
	tb.Helper()
	f, err := os.CreateTemp(tb.TempDir(), "f")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	if _, err := f.WriteAt(content, 0); err != nil {
		tb.Fatal(err)
	}
	return f
}

func FuzzCompile(f *testing.F) {
	f.Add(addModule)
	f.Add([]byte(function("\x01\x02\x7f\x02\x40\x03\x40\x0c\x00\x0b\x0b\x0b")))
	f.Add([]byte(header + section(5, "\x01\x00\x01") + section(11, "\x02\x00\x41\x05\x0b\x03abc\x01\x02de")))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		out := new(buffer)
		if err := compile(context.Background(), wasm, out); err != nil && !errors.Is(err, ErrBadModule) {
			t.Errorf("unexpected kind of error: %v", err)
		}
	})
}

// buffer is a file in memory.
type buffer struct{ b []byte }

func (w *buffer) WriteAt(p []byte, off int64) (int, error) {
	if n := int(off) + len(p); n > len(w.b) {
		w.b = append(w.b, bytes.Repeat([]byte{0}, n-len(w.b))...)
	}
	return copy(w.b[off:], p), nil
}

// addModule exports add(i32, i32) -> i32.
var addModule = []byte(header + section(1, "\x01\x60\x02\x7f\x7f\x01\x7f") + section(3, "\x01\x00") +
	section(7, "\x01\x03add\x00\x00") + section(10, "\x01\x07\x00\x20\x00\x20\x01\x6a\x0b"))
