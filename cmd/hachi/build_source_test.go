package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv/guest"
)

func TestBuildGo(t *testing.T) {
	h := start(t)
	h.write(t, "go.mod", []byte("module example.com/bees/v2\n\ngo 1.24\n"))
	h.write(t, "cmd/hive/main.go", []byte("package main\n\nvar answer = \"none\"\n\nfunc main() { println(answer) }\n"))
	h.write(t, "cmd/hive/more.go", []byte("//go:build more\n\npackage main\n\nfunc init() { answer += \" and more\" }\n"))

	_, said := h.ok(t, "build", "--go", "./cmd/hive", "-t", "localhost/hive:v1", "--tags", "more", "--ldflags", "-X main.answer=honey -s")
	if !strings.Contains(said, "wrote  hive.tar") {
		t.Errorf("said %q", said)
	}
	shown, _ := h.ok(t, "inspect", "hive.tar")
	if !strings.Contains(shown, "Entrypoint  /hive.wasm") {
		t.Errorf("inspect shows %s", shown)
	}
	h.ok(t, "build", "--go", "./cmd/hive", "-o", "alone.wasm", "--tags", "more", "--ldflags", "-X main.answer=honey -s")
	if b, err := os.ReadFile("alone.wasm"); err != nil || !strings.Contains(string(b), "honey") || !strings.Contains(string(b), " and more") {
		t.Errorf("the flags did not reach the compiler (%v)", err)
	}

	h.write(t, "cmd/hive/broken.go", []byte("package main\n\nvar x = nothing\n"))
	code, _, said := h.run(t, "build", "--go", "./cmd/hive", "-t", "hive")
	if want := "# example.com/bees/v2/cmd/hive\ncmd/hive/broken.go:3:9: undefined: nothing\n"; code != exitFailed || !strings.HasPrefix(said, want) {
		t.Errorf("exit code %d, said %q; want it to start with %q", code, said, want)
	}
}

func TestBuildC(t *testing.T) {
	if !guest.HaveC(guest.WASI) {
		t.Skip("needs clang, lld and wasi-libc: run make deps")
	}
	h := start(t)
	h.write(t, "hive.c", []byte("#include \"hive.h\"\nint main(void) { return bees() + BEES; }\n"))
	h.write(t, "bees.c", []byte("#include \"hive.h\"\nint bees(void) { return 1; }\n"))
	h.write(t, "include/hive.h", []byte("int bees(void);\n"))
	h.ok(t, "build", "--c", "hive.c", "bees.c", "--cflags", "-Iinclude -Wall", "--cflags", "-DBEES=2", "-t", "localhost/hive:v1")
	if shown, _ := h.ok(t, "inspect", "hive.tar"); !strings.Contains(shown, "Entrypoint  /hive.wasm") {
		t.Errorf("inspect shows %s", shown)
	}
}

func TestBuildSourceUsage(t *testing.T) {
	h := start(t)
	for args, want := range map[string]string{
		"build --go . --c x.c -t app":       "--go and --c: one of them",
		"build app.wasm --go . -t app":      "and --go: one of them",
		"build app.wasm --tags x -t app":    "for --go",
		"build app.wasm --ldflags=-s -t x":  "for --go",
		"build app.wasm --cflags=-g -t app": "for --c",
		"build --go .":                      "say -t NAME",
		"build --go . -o app.tar":           "say -t NAME",
	} {
		if code, _, said := h.run(t, strings.Fields(args)...); code != exitUsage || !strings.Contains(said, want) {
			t.Errorf("hachi %s: exit code %d, %q; want %q", args, code, said, want)
		}
	}
	if left, _ := filepath.Glob("*"); len(left) != 1 {
		t.Errorf("left behind %v", left)
	}
}
