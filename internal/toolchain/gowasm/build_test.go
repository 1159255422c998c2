package gowasm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The versions of Go that are tested beside the installed one; the go command downloads them for itself.
var versions = []string{"go1.24.13", "go1.25.8"}

func TestVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: each version compiles the standard library once")
	}
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			env := "GOTOOLCHAIN=" + v
			cmd := exec.Command("go", "version")
			cmd.Env = append(os.Environ(), env)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("cannot get this version: %v\n%s", err, out)
			} else if !strings.Contains(string(out), v+" ") {
				t.Fatalf("asked for %s, got %s", v, out)
			}
			module := built(t, "plain", env)
			if b, err := os.ReadFile(module); err != nil || !bytes.Contains(b, []byte(v)) {
				t.Errorf("the module is not from %s (%v)", v, err)
			}
			for _, what := range []string{"tcp", "udp", "families"} {
				if got := start(t, module, what).wait(); got != "ok "+what+"\n" {
					t.Errorf("printed %q", got)
				}
			}
			port := freePort(t)
			g := start(t, "-p", "127.0.0.1:"+port+":80", module, "serve", ":80")
			_ = g.dial("127.0.0.1:" + port).Close()
			c := newClient(t, nil)
			if got, err := fetch(c, "http://127.0.0.1:"+port+"/x"); err != nil || got != "GET /x HTTP/1.1 tls=false " {
				t.Errorf("got %q, %v", got, err)
			}
			if _, err := fetch(c, "http://127.0.0.1:"+port+"/quit"); err != nil {
				t.Error(err)
			}
			g.wait()
		})
	}
}

func TestFlags(t *testing.T) {
	out := filepath.Join(t.TempDir(), "flags.wasm")
	var said bytes.Buffer
	err := Build(context.Background(), Options{
		Dir: "testdata/flags", Package: ".", Output: out, Tags: "bees", LDFlags: "-X main.version=v3", Stderr: &said,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	g := start(t, out)
	g.wait()
	if got := g.stderr.String(); got != "v3 bees\n" {
		t.Errorf("printed %q", got)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("\x04name")) {
		t.Error("no section with names for traces")
	}
	if dir, _ := os.Getwd(); bytes.Contains(b, []byte(dir)) {
		t.Errorf("the module has this machine's path %s in it", dir)
	}
}

// What the compiler says is the same as without hachi.
func TestProgramErrors(t *testing.T) {
	cmd := exec.Command("go", "build", "-trimpath", "-o", os.DevNull, ".")
	cmd.Dir = "testdata/broken"
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	want, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("the broken program compiles")
	}
	var said bytes.Buffer
	err = Build(context.Background(), Options{Package: "./testdata/broken", Output: filepath.Join(t.TempDir(), "x"), Stderr: &said})
	if err == nil || errors.Is(err, ErrUnsupported) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(string(want), said.String()); diff != "" {
		t.Errorf("the compiler's words (-go build +hachi):\n%s", diff)
	}
}

func TestNoPackage(t *testing.T) {
	var said bytes.Buffer
	err := Build(context.Background(), Options{Package: "./testdata/nothing", Output: filepath.Join(t.TempDir(), "x"), Stderr: &said})
	if err == nil || errors.Is(err, ErrUnsupported) || !strings.Contains(said.String(), "testdata/nothing") {
		t.Errorf("error %v\n%s", err, &said)
	}
}

func TestNoGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Build(context.Background(), Options{Package: ".", Output: "x"})
	if !errors.Is(err, ErrNoGo) {
		t.Errorf("error %v", err)
	}
	if want := "build .: no go command in PATH (install Go 1.24 to 1.26, see https://go.dev/dl)"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// A stand-in for an old go command.
func TestOldGo(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho '{\"GOROOT\": \"/usr/lib/go\", \"GOVERSION\": \"go1.23.9\", \"GOMODCACHE\": \"/m\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	err := Build(context.Background(), Options{Package: ".", Output: "x"})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "go1.23.9") {
		t.Errorf("error %v", err)
	}
}

// A future Go may move or change what the overlay hangs on; each such change must be named.
func TestChangedSources(t *testing.T) {
	g, err := find(context.Background(), &Options{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	packages, err := g.list(context.Background(), "net")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file, old, new string
		want           string
	}{
		"unchanged":        {},
		"no such function": {"conf.go", ") hostLookupOrder(", ") newLookupOrder(", "no function hostLookupOrder of conf"},
		"a new need":       {"fd_fake.go", "type unknownAddr struct{}", "var maxPollers = 3\n\ntype unknownAddr struct{}", "uses what hachi does not know: maxPollers of fd_fake.go"},
		"no such file":     {"net_fake.go", "", "", "no file net_fake.go"},
	} {
		t.Run(name, func(t *testing.T) {
			p := listed{ImportPath: "net", Dir: t.TempDir()}
			for _, f := range packages[0].GoFiles {
				b, err := os.ReadFile(filepath.Join(packages[0].Dir, f))
				if err != nil {
					t.Fatal(err)
				}
				if f == c.file {
					if c.old == "" {
						continue
					}
					if !bytes.Contains(b, []byte(c.old)) {
						t.Fatalf("%s has no %q", f, c.old)
					}
					b = bytes.Replace(b, []byte(c.old), []byte(c.new), 1)
				}
				if name == "a new need" && f == "dial.go" {
					b = append(b, "\nvar _ = maxPollers\n"...)
				}
				p.GoFiles = append(p.GoFiles, f)
				if err := os.WriteFile(filepath.Join(p.Dir, f), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := changes[0].apply(p, t.TempDir(), map[string]string{})
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestName(t *testing.T) {
	for pkg, want := range map[string]string{
		"./cmd/app":                  "app",
		".":                          "gowasm",
		"./testdata/..":              "gowasm",
		"main.go":                    "main",
		"./cmd/server.go":            "server",
		"example.com/tool/v2":        "tool",
		"example.com/tool@v1.2.3":    "tool",
		"example.com/tool/v2@v2.0.0": "tool",
		"/":                          "app",
	} {
		if got := Name(pkg); got != want {
			t.Errorf("Name(%q) = %q, want %q", pkg, got, want)
		}
	}
}
