package cwasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func needC(t *testing.T) {
	t.Helper()
	if !guest.HaveC(guest.WASI) {
		t.Skip("needs clang, lld and wasi-libc: run make deps")
	}
}

// built compiles a program of testdata.
func built(t *testing.T, file string, flags ...string) string {
	t.Helper()
	needC(t)
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(file), ".c")+".wasm")
	var said bytes.Buffer
	flags = append([]string{"-Wall", "-Wextra", "-Werror"}, flags...)
	if err := Build(context.Background(), Options{Files: []string{file}, Output: out, Flags: flags, Stderr: &said}); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	return out
}

func hachi(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(testenv.Bin(t), "hachi"), append([]string{"run", "--timeout", "1m"}, args...)...)
	cmd.Stderr = t.Output()
	return cmd
}

func TestEchoServer(t *testing.T) {
	cmd := hachi(t, built(t, "testdata/echo.c"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var address string
	if _, err := fmt.Fscanln(out, &address); err != nil {
		t.Fatal(errors.Join(err, cmd.Wait()))
	}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			for j := range 20 {
				want := fmt.Sprintf("client %d says %d", i, j)
				got := make([]byte, len(want))
				if _, err := c.Write([]byte(want)); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
					t.Errorf("said %q, heard %q, %v", want, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("quit")); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWorkingDirectory(t *testing.T) {
	module := built(t, "testdata/cwd.c")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, file, want string }{
		{"/", "file", "/ no file\n"},
		{"/data", "file", "/data file\n"},
		{"/data/", "other", "/data no file\n"},
	} {
		out, err := hachi(t, "-v", dir+":/data", "-w", tt.in, module, tt.file).Output()
		if err != nil || string(out) != tt.want {
			t.Errorf("in %s: %q, %v; want %q", tt.in, out, err, tt.want)
		}
	}
}

func TestSingleFile(t *testing.T) {
	module := built(t, "testdata/cwd.c")
	dir := t.TempDir()
	for _, name := range []string{"given", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"/etc/app.conf": "/ file\n", "/etc/other": "/ no file\n", "/etc/app.conf/other": "/ no file\n"} {
		out, err := hachi(t, "-v", filepath.Join(dir, "given")+":/etc/app.conf:ro", module, name).Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v; want %q", name, out, err, want)
		}
	}
}

func TestClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(struct{ io.Writer }{c}, c) // not by splice(2), whose pipes package net keeps
			_ = c.Close()
		}
	})
	defer wg.Wait()
	defer l.Close()
	dir := testenv.ShortDir(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// With the engine's own root as "/" Unix sockets have names.
	out, err := hachi(t, "-v", "/:/", built(t, "testdata/client.c"), "127.0.0.1", port, dir).Output()
	if err != nil || string(out) != "ok\n" {
		t.Errorf("printed %q, %v", out, err)
	}
}

// A program without sockets imports none, and one with them has the names of its functions.
func TestModule(t *testing.T) {
	hello := filepath.Join(t.TempDir(), "hello.c")
	if err := os.WriteFile(hello, []byte("#include <stdio.h>\nint main(void) { return puts(WORD) < 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	module := built(t, hello, "-DWORD=\"bees\"")
	for _, name := range imports(t, module) {
		if strings.HasPrefix(name, "sock_") {
			t.Errorf("a program without sockets imports %s", name)
		}
	}
	if out, err := hachi(t, module).Output(); err != nil || string(out) != "bees\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	echo := built(t, "testdata/echo.c")
	if got := strings.Join(imports(t, echo), " "); !strings.Contains(got, "sock_listen") || strings.Contains(got, "sock_getaddrinfo") {
		t.Errorf("the echo server imports %s", got)
	}
	b, err := os.ReadFile(echo)
	if err != nil || !bytes.Contains(b, []byte("\x04name")) {
		t.Errorf("no section with names for traces (%v)", err)
	}
	again, err := os.ReadFile(built(t, "testdata/echo.c"))
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("a second build is another module (%v)", err)
	}
}

func imports(t *testing.T, module string) (names []string) {
	t.Helper()
	b, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	m, err := rt.CompileModule(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.ImportedFunctions() {
		_, name, _ := f.Import()
		names = append(names, name)
	}
	return names
}

func TestErrors(t *testing.T) {
	needC(t)
	broken := filepath.Join(t.TempDir(), "broken.c")
	if err := os.WriteFile(broken, []byte("int main(void) { return nothing; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	err := Build(context.Background(), Options{Files: []string{broken}, Output: filepath.Join(t.TempDir(), "x"), Stderr: &said})
	if err == nil || errors.Is(err, ErrNoCompiler) || !strings.Contains(said.String(), "undeclared identifier 'nothing'") {
		t.Errorf("error %v\n%s", err, &said)
	}
}

func TestNoCompiler(t *testing.T) {
	t.Setenv("WASI_SDK_PATH", "")
	t.Setenv("PATH", t.TempDir())
	err := Build(context.Background(), Options{Files: []string{"x.c"}, Output: "x"})
	if !errors.Is(err, ErrNoCompiler) || !strings.Contains(err.Error(), "apt-get install clang lld wasi-libc") {
		t.Errorf("error %v", err)
	}
	// A clang without wasi-libc.
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"x.c:1:10: fatal error: 'errno.h' file not found\" >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "clang"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	err = Build(context.Background(), Options{Files: []string{"x.c"}, Output: "x"})
	if !errors.Is(err, ErrNoCompiler) || !strings.Contains(err.Error(), "'errno.h' file not found") {
		t.Errorf("error %v", err)
	}
}
