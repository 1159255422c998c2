package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/images"
)

// module is a Wasm module that does nothing: an exported _start with an empty body.
var module = []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x04\x01\x02\x00\x0b")

// TestMain fails the package when a test left a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// hachi runs the program in a fresh directory that holds app.wasm, or in the one given.
type hachi struct{ dir string }

func start(t *testing.T) hachi {
	t.Helper()
	h := hachi{t.TempDir()}
	t.Chdir(h.dir)
	h.write(t, "app.wasm", module)
	return h
}

func (h hachi) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(h.dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (h hachi) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func (h hachi) ok(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := h.run(t, args...)
	if code != exitOK {
		t.Fatalf("hachi %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return stdout, stderr
}

func TestExitCodes(t *testing.T) {
	h := start(t)
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"", exitOK, ""},
		{"--help", exitOK, ""},
		{"version", exitOK, ""},
		{"--version", exitOK, ""},
		{"biuld", exitUsage, `unknown command "biuld" (did you mean build?)`},
		{"--flag", exitUsage, "unknown flag"},
		{"build", exitUsage, "accepts 1 arg(s), received 0 (see hachi build --help)"},
		{"build app.wasm", exitUsage, "say -t NAME"},
		{"build app.wasm -t app --arch arm64", exitUsage, "--arch without --dir"},
		{"build --nonsense", exitUsage, "unknown flag"},
		{"build missing.wasm -t app", exitFailed, "missing.wasm"},
		{"push", exitUsage, "arg(s)"},
		{"push missing.tar localhost:1/app", exitFailed, "no such file"},
		{"inspect", exitUsage, "arg(s)"},
		{"inspect missing.wasm", exitFailed, "no such file"},
		{"inspect .", exitFailed, "not a file"},
		{"version extra", exitUsage, ""},
		{"run", exitRun, "arg(s)"},
	} {
		code, _, stderr := h.run(t, strings.Fields(tc.args)...)
		if code != tc.code || !strings.Contains(stderr, tc.says) {
			t.Errorf("hachi %s: got exit code %d and %q; want %d and %q", tc.args, code, stderr, tc.code, tc.says)
		}
		if code == exitOK && stderr != "" {
			t.Errorf("hachi %s: %q on stderr", tc.args, stderr)
		}
	}
}

func TestBuildWritesWhereUsersLook(t *testing.T) {
	h := start(t)
	for _, tc := range []struct{ name, flags, file string }{
		{"me/app:v1", "", "app.tar"},
		{"localhost:5000/team/api", "", "api.tar"},
		{"app", "-o sub/out.tar", "sub/out.tar"},
	} {
		if err := os.MkdirAll("sub", 0o755); err != nil {
			t.Fatal(err)
		}
		_, stderr := h.ok(t, append(strings.Fields("build app.wasm -t "+tc.name), strings.Fields(tc.flags)...)...)
		if _, err := os.Stat(tc.file); err != nil || !strings.Contains(stderr, "ctr image import --all-platforms "+tc.file) {
			t.Errorf("%s: %v, said %q", tc.name, err, stderr)
		}
	}
	stdout, _ := h.ok(t, "build", "app.wasm", "-t", "me/app:v1", "-o", "-")
	file, err := os.ReadFile("app.tar")
	if err != nil || stdout != string(file) {
		t.Errorf("-o - differs from the file: %d and %d bytes, %v", len(stdout), len(file), err)
	}
}

func TestSourceDateEpoch(t *testing.T) {
	h := start(t)
	one, _ := h.ok(t, "build", "app.wasm", "-t", "app", "-o", "-")
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	two, _ := h.ok(t, "build", "app.wasm", "-t", "app", "-o", "-")
	if one == two || !strings.Contains(two, `"created":"2023-11-14T22:13:20Z"`) {
		t.Error("SOURCE_DATE_EPOCH did not become the image's time")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if code, _, stderr := h.run(t, "build", "app.wasm", "-t", "app"); code != exitFailed || !strings.Contains(stderr, "SOURCE_DATE_EPOCH") {
		t.Errorf("got %d, %q", code, stderr)
	}
}

func TestBuildPushInspect(t *testing.T) {
	h := start(t)
	t.Cleanup(remote.DefaultTransport.(*http.Transport).CloseIdleConnections)
	registry := images.Registry(t)
	h.write(t, "public/index.html", []byte("<p>hi</p>"))
	_, stderr := h.ok(t, "build", "app.wasm", "-t", registry+"/app:v1", "--push", "-e", "A=1 2", "-p", "8080", "--cmd", "serve", "--dir", "public:/srv", "--workdir", "/srv")
	if !strings.Contains(stderr, "pushed "+registry+"/app@sha256:") {
		t.Errorf("said %q", stderr)
	}
	if _, err := os.Stat("app.tar"); err == nil {
		t.Error("--push wrote an archive too")
	}
	text, _ := h.ok(t, "inspect", registry+"/app:v1")
	for _, want := range []string{"Layout", "L", "linux/", "/app.wasm", "serve", "A=1 2", "8080/tcp", "/srv", "application/wasm", "Functions", "_start"} {
		if !strings.Contains(text, want) {
			t.Errorf("inspect does not show %q:\n%s", want, text)
		}
	}

	h.ok(t, "build", "app.wasm", "-t", registry+"/other:v1")
	pinned, _ := h.ok(t, "push", "other.tar")
	also, _ := h.ok(t, "push", "other.tar", registry+"/copy")
	if !strings.HasPrefix(pinned, registry+"/other@sha256:") || !strings.HasPrefix(also, registry+"/copy@sha256:") {
		t.Errorf("pushed %q and %q", pinned, also)
	}
	fromTar, _ := h.ok(t, "inspect", "--json", "other.tar")
	fromRegistry, _ := h.ok(t, "inspect", "--json", strings.TrimSpace(also))
	var a, b report
	if err := json.Unmarshal([]byte(fromTar), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(fromRegistry), &b); err != nil {
		t.Fatal(err)
	}
	if a.Image.Digest != b.Image.Digest || a.Image.Judgement.Layout != "A" || len(b.Modules) != 1 || b.Modules[0].Digest != images.Digest(module) {
		t.Errorf("archive:\n%s\nregistry:\n%s", fromTar, fromRegistry)
	}
}

func TestInspectModules(t *testing.T) {
	h := start(t)
	h.write(t, "component.wasm", []byte("\x00asm\x0d\x00\x01\x00"))
	h.write(t, "env.wasm", []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x0b\x01\x03env\x03b\x1b]\x00\x00"))
	h.write(t, "lib.wasm", []byte("\x00asm\x01\x00\x00\x00"))
	for file, want := range map[string]string{
		"app.wasm": "_start", "component.wasm": "component", "env.wasm": "imports env, which hachi does not provide", "lib.wasm": "no function _start",
	} {
		text, _ := h.ok(t, "inspect", file)
		if !strings.Contains(text, want) {
			t.Errorf("%s: want %q in\n%s", file, want, text)
		}
		if strings.Contains(text, "\x1b") {
			t.Errorf("%s: a terminal escape came through", file)
		}
	}
}

func TestInspectWarnsOfLayouts(t *testing.T) {
	h := start(t)
	for _, l := range images.Layouts(module) {
		h.write(t, "layout.tar", l.Archive)
		text, _ := h.ok(t, "inspect", "layout.tar")
		if trouble := l.Ctr != images.OK || l.CRI != images.OK; trouble != strings.Contains(text, "Problem") {
			t.Errorf("layout %s: trouble %v, said\n%s", l.Name, trouble, text)
		}
	}
}

func TestVersion(t *testing.T) {
	h := start(t)
	text, _ := h.ok(t, "version")
	flag, _ := h.ok(t, "--version")
	if text != flag || !strings.HasPrefix(text, "hachi ") {
		t.Errorf("got %q and %q", text, flag)
	}
	asJSON, _ := h.ok(t, "version", "--json")
	var info struct{ Version, Go, Platform string }
	if err := json.Unmarshal([]byte(asJSON), &info); err != nil || info.Version == "" || info.Go == "" || info.Platform == "" {
		t.Errorf("got %q, %v", asJSON, err)
	}
}
