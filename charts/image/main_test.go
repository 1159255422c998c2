package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/install"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// programs is a folder with four small static programs.
func programs(t *testing.T, arch string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, install.Programs[0]), source)
	cmd.Env = append(append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, install.Programs[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range install.Programs[1:] {
		if err := os.WriteFile(filepath.Join(dir, p), raw, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestImage(t *testing.T) {
	t.Cleanup(remote.DefaultTransport.(*http.Transport).CloseIdleConnections)
	registry := images.Registry(t)
	amd, arm := programs(t, "amd64"), programs(t, "arm64")
	out := filepath.Join(t.TempDir(), "node.tar")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-o", out, "-name", "example.test/node:v1", "-push", registry + "/node:v1", "amd64=" + amd, "arm64=" + arm}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	pinned := strings.TrimSpace(stdout.String())
	ref, err := name.ParseReference(pinned)
	if err != nil {
		t.Fatalf("%q: %v", pinned, err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		img, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != m.Platform.Architecture || config.Config.Entrypoint[0] != "/bin/hachi" || len(config.RootFS.DiffIDs) != 1 {
			t.Errorf("got %+v", config)
		}
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Equal input, equal bytes.
	again := filepath.Join(t.TempDir(), "again.tar")
	if code := run(t.Context(), []string{"-o", again, "-name", "example.test/node:v1", "amd64=" + amd, "arm64=" + arm}, &stdout, &stderr); code != 0 {
		t.Fatal(stderr.String())
	}
	one, err1 := os.ReadFile(out)
	two, err2 := os.ReadFile(again)
	if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
		t.Error("the second archive differs")
	}
}

func TestRefusals(t *testing.T) {
	amd := programs(t, "amd64")
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 64, "no programs"},
		{[]string{amd}, 1, "want ARCH=DIR"},
		{[]string{"arm64=" + amd}, 1, "containerd-shim-hachi-v1: is for EM_X86_64, not for arm64"},
		{[]string{"riscv=" + amd}, 1, "want amd64 or arm64"},
		{[]string{other + "=" + t.TempDir()}, 1, "no such file"},
		{[]string{"-nonsense"}, 64, "not defined"},
	} {
		var stderr bytes.Buffer
		out := filepath.Join(t.TempDir(), "x.tar")
		args := c.args
		if len(args) > 0 {
			args = append([]string{"-o", out}, args...)
		}
		code := run(t.Context(), args, &bytes.Buffer{}, &stderr)
		if code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%v: got %d, %q; want %d, %q", c.args, code, stderr.String(), c.code, c.says)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%v: wrote an archive all the same", c.args)
		}
	}
}

func TestDynamicProgramIsRefused(t *testing.T) {
	raw, err := os.ReadFile(testenv.NeedTool(t, "ls"))
	if err != nil {
		t.Fatal(err)
	}
	if err := isStatic(raw, runtime.GOARCH); err == nil || !strings.Contains(err.Error(), "not static") {
		t.Errorf("got %v", err)
	}
}
