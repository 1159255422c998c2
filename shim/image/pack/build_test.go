package pack_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image/pack"
)

// module is a Wasm module that does nothing: an exported _start with an empty body.
var module = []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x04\x01\x02\x00\x0b")

func write(t *testing.T, name string, content []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func build(t *testing.T, o pack.Options) *pack.Image {
	t.Helper()
	if o.Module == "" {
		o.Module = write(t, filepath.Join(t.TempDir(), "app.wasm"), module, 0o644)
	}
	if o.Name == "" {
		o.Name = "localhost/app:v1"
	}
	i, err := pack.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func only(t *testing.T, i *pack.Image) pack.Manifest {
	t.Helper()
	all, err := i.Manifests(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("got %d manifests, %v", len(all), err)
	}
	return all[0]
}

func TestLayoutA(t *testing.T) {
	i := build(t, pack.Options{
		Entrypoint: []string{"/bin/server.wasm", "serve"}, Cmd: []string{"-v"}, Env: []string{"A=1", "B="},
		WorkingDir: "/data", Ports: []string{"8080", "53/udp"},
	})
	if i.Target.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("the target is %s, not a bare manifest", i.Target.MediaType)
	}
	m := only(t, i)
	epoch := time.Unix(0, 0).UTC()
	want := &ocispec.Image{
		Created:  &epoch,
		Platform: ocispec.Platform{OS: "wasip1", Architecture: "wasm"},
		Config: ocispec.ImageConfig{
			Entrypoint: []string{"/bin/server.wasm", "serve"}, Cmd: []string{"-v"}, Env: []string{"A=1", "B="}, WorkingDir: "/data",
			ExposedPorts: map[string]struct{}{"8080/tcp": {}, "53/udp": {}},
		},
	}
	want.RootFS.Type = "layers"
	want.RootFS.DiffIDs = m.Config.RootFS.DiffIDs[:0]
	if diff := cmp.Diff(want, m.Config); diff != "" {
		t.Error(diff)
	}
	raw, err := i.Blob(t.Context(), m.Manifest.Config)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(raw)
	if err != nil || !strings.Contains(string(text), `"diff_ids":[]`) { // null makes containerd fail
		t.Errorf("config %s, %v", text, err)
	}
	if len(m.Manifest.Layers) != 1 {
		t.Fatalf("%d layers", len(m.Manifest.Layers))
	}
	layer := m.Manifest.Layers[0]
	if layer.MediaType != "application/wasm" || layer.Digest.String() != images.Digest(module) || layer.Annotations[ocispec.AnnotationTitle] != "server.wasm" {
		t.Errorf("layer %+v", layer)
	}
	if j := i.Judge([]pack.Manifest{m}); j.Layout != "A" || j.Problem != "" {
		t.Errorf("judged %+v", j)
	}
}

func TestLayoutL(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "index.html"), []byte("<p>hi</p>"), 0o664)
	write(t, filepath.Join(dir, "bin/tool"), []byte("tool"), 0o700)
	if err := os.Symlink("index.html", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	i := build(t, pack.Options{Dirs: []string{dir + ":/srv/../srv/www/", dir + ":extra"}})
	m := only(t, i)
	if m.Platform.OS != "linux" || m.Platform.Architecture != runtime.GOARCH || len(m.Manifest.Layers) != 2 {
		t.Fatalf("platform %+v, %d layers", m.Platform, len(m.Manifest.Layers))
	}
	layer := m.Manifest.Layers[0]
	if layer.MediaType != ocispec.MediaTypeImageLayer || len(m.Config.RootFS.DiffIDs) != 1 || m.Config.RootFS.DiffIDs[0] != layer.Digest {
		t.Errorf("layer %+v, diff_ids %v", layer, m.Config.RootFS.DiffIDs)
	}
	r, err := i.Blob(t.Context(), layer)
	if err != nil {
		t.Fatal(err)
	}
	type file struct {
		Name, Link, Content string
		Mode                int64
	}
	var got []file
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s shows its builder: %+v", h.Name, h)
		}
		got = append(got, file{h.Name, h.Linkname, string(content), h.Mode})
	}
	var want []file
	for _, base := range []string{"srv/www/", "extra/"} {
		if base == "srv/www/" {
			want = append(want, file{Name: "srv/", Mode: 0o755})
		}
		want = append(want, file{Name: base, Mode: 0o755}, file{Name: base + "bin/", Mode: 0o755},
			file{Name: base + "bin/tool", Content: "tool", Mode: 0o755},
			file{Name: base + "index.html", Content: "<p>hi</p>", Mode: 0o644}, file{Name: base + "link", Link: "index.html", Mode: 0o777})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if j := i.Judge([]pack.Manifest{m}); j.Layout != "L" || j.Problem != "" {
		t.Errorf("judged %+v", j)
	}
}

func TestEqualInputEqualImage(t *testing.T) {
	archive := func(mtime time.Time, o pack.Options) []byte {
		dir := t.TempDir()
		for _, name := range []string{"b", "a", "c/d"} {
			file := write(t, filepath.Join(dir, name), []byte(name), 0o600)
			if err := os.Chtimes(file, mtime, mtime); err != nil {
				t.Fatal(err)
			}
		}
		o.Dirs, o.Ports, o.Arch = []string{dir + ":/d"}, []string{"3", "1", "2"}, "amd64"
		var out bytes.Buffer
		if err := build(t, o).WriteArchive(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	a := archive(time.Now(), pack.Options{})
	if !bytes.Equal(a, archive(time.Unix(1e9, 0), pack.Options{})) {
		t.Error("two builds of the same input differ")
	}
	if bytes.Equal(a, archive(time.Now(), pack.Options{Created: time.Unix(1e9, 0)})) {
		t.Error("Created makes no difference")
	}
}

func TestWhatCannotBePacked(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := os.Mkdir(fifo, 0o755); err != nil {
		t.Fatal(err)
	}
	mkfifo(t, filepath.Join(fifo, "pipe"))
	good := write(t, filepath.Join(dir, "good/app.wasm"), module, 0o644)
	for _, tc := range []struct {
		name, content, says string
		o                   pack.Options
	}{
		{"component", "\x00asm\x0d\x00\x01\x00", "build for wasip1 instead of wasip2", pack.Options{}},
		{"elf", "\x7fELF\x02\x01\x01\x00", "ELF program", pack.Options{}},
		{"text", "(module)", "wat2wasm", pack.Options{}},
		{"empty", "", "not WebAssembly", pack.Options{}},
		{"truncated", string(module[:len(module)-3]), "truncated", pack.Options{}},
		{"short", "\x00asm\x01", "truncated", pack.Options{}},
		{"missing", "", "no such file", pack.Options{Module: filepath.Join(dir, "none.wasm")}},
		{"directory", "", "not a file", pack.Options{Module: dir}},
		{"name", "", "image name", pack.Options{Module: good, Name: "UPPER case"}},
		{"env", "", "NAME=value", pack.Options{Module: good, Env: []string{"A"}}},
		{"port", "", "8080/tcp", pack.Options{Module: good, Ports: []string{"http"}}},
		{"workdir", "", "not absolute", pack.Options{Module: good, WorkingDir: "data"}},
		{"entrypoint", "", "no file name", pack.Options{Module: good, Entrypoint: []string{"/"}}},
		{"no directory", "", "no such file", pack.Options{Module: good, Dirs: []string{dir + "/none:/x"}}},
		{"file for a directory", "", "not a directory", pack.Options{Module: good, Dirs: []string{good + ":/x"}}},
		{"fifo", "", "only files, links and directories", pack.Options{Module: good, Dirs: []string{fifo + ":/x"}}},
		{"twice", "", "packed twice", pack.Options{Module: good, Dirs: []string{dir + "/good:/x", dir + "/good:/x"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.o.Module == "" {
				tc.o.Module = write(t, filepath.Join(t.TempDir(), "app.wasm"), []byte(tc.content), 0o644)
			}
			if tc.o.Name == "" {
				tc.o.Name = "app"
			}
			i, err := pack.Build(tc.o)
			if err == nil {
				i.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v; want it to say %q", err, tc.says)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for short, want := range map[string]string{
		"app": "docker.io/library/app:latest", "app:v1": "docker.io/library/app:v1", "me/app": "docker.io/me/app:latest",
		"localhost/app": "localhost/app:latest", "localhost:5000/a/b:v1": "localhost:5000/a/b:v1", "ghcr.io/x/y:z": "ghcr.io/x/y:z",
	} {
		if got, err := pack.FullName(short); got != want || err != nil {
			t.Errorf("%s: got %s, %v; want %s", short, got, err, want)
		}
	}
}

func TestEpoch(t *testing.T) {
	if got, err := pack.Epoch("1700000000"); err != nil || got.Unix() != 1700000000 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"now", "-1", "1e9", "99999999999999"} {
		if _, err := pack.Epoch(bad); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}
