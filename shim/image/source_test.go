package image_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image"
)

func layout(t testing.TB, name string) images.Layout {
	t.Helper()
	for _, l := range images.Layouts(module) {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no layout %s", name)
	return images.Layout{}
}

func readAll(t *testing.T, m *image.Module) []byte {
	t.Helper()
	f, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Verify(f); err != nil {
		t.Error(err)
	}
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("the module's descriptor can be written")
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != m.Size {
		t.Errorf("Size is %d, content has %d bytes", m.Size, len(data))
	}
	return data
}

func TestEveryLayoutIsRead(t *testing.T) {
	for _, from := range []string{"directory", "service"} {
		t.Run(from, func(t *testing.T) {
			d := startFake(t)
			s := d.source(t)
			for _, l := range images.Layouts(module) {
				t.Run(l.Name, func(t *testing.T) {
					rootfs := d.add(t, "c-"+l.Name, l, from == "directory")
					i, err := s.Resolve(t.Context(), "c-"+l.Name, command(l.Args...), rootfs)
					if err != nil {
						t.Fatal(err)
					}
					if i.Kind != image.Wasm || len(i.Modules) == 0 {
						t.Fatalf("got %v with %d modules, want wasm", i.Kind, len(i.Modules))
					}
					m := &i.Modules[0]
					if got := readAll(t, m); !bytes.Equal(got, module) {
						t.Errorf("got module %x, want %x", got, module)
					}
					if m.Digest != images.Digest(module) || m.Name != "app.wasm" || i.Name != l.Ref {
						t.Errorf("got module %s, digest %s, image %s", m.Name, m.Digest, i.Name)
					}
				})
			}
		})
	}
}

// A module that containerd sends in many messages, and more of it than it may send ahead.
func TestLargeModuleIsReceived(t *testing.T) {
	d := startFake(t)
	section := make([]byte, 1<<20) // a custom one without a name
	large := append(binary.AppendUvarint(append(bytes.Clone(module), 0), uint64(len(section))), section...)
	rootfs := d.add(t, "c", images.Layouts(large)[0], false)
	i, err := d.source(t).Resolve(t.Context(), "c", command("/app.wasm"), rootfs)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, &i.Modules[0]); !bytes.Equal(got, large) {
		t.Errorf("got %d bytes, want %d", len(got), len(large))
	}
}

func TestConfigIsRead(t *testing.T) {
	d := startFake(t)
	rootfs := d.add(t, "c", layout(t, "A"), true)
	i, err := d.source(t).Resolve(t.Context(), "c", command("/app.wasm"), rootfs)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{i.Entrypoint, i.Env, i.WorkingDir, i.Ports, i.Digest}
	want := []any{[]string{"/app.wasm"}, []string{"FROM_IMAGE=yes"}, "/", []image.Port{{Number: 8080, Protocol: "tcp"}}, layout(t, "A").Target.Digest}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFewCalls(t *testing.T) {
	d := startFake(t)
	s := d.source(t)
	wasm := d.add(t, "wasm", layout(t, "A"), true)
	elf := layout(t, "H")
	elf.Layers = []string{"sha256:native-program"}
	elf.Blobs = map[string][]byte{elf.Layers[0]: images.Tar("bin/sh", []byte("\x7fELF\x02\x01\x01"))}
	linux := d.add(t, "linux", elf, true)
	cri := command("/app.wasm")
	cri.Annotations = map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.image-name": layout(t, "A").Ref}
	short := command("/app.wasm")
	short.Annotations = map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.image-name": "layout-a"}

	for _, tc := range []struct {
		name   string
		id     string
		spec   *specs.Spec
		rootfs []specs.Mount
		kind   image.Kind
		want   []string
	}{
		{"wasm", "wasm", command("/app.wasm"), wasm, image.Wasm, []string{"containers.Get", "images.Get"}},
		{"wasm in a pod", "wasm", cri, wasm, image.Wasm, []string{"images.Get"}},
		{"pod with a short image name", "wasm", short, wasm, image.Wasm, []string{"images.Get", "containers.Get", "images.Get"}},
		{"linux program", "linux", command("/bin/sh"), linux, image.Linux, nil},
		{"linux program in PATH", "linux", command("sh"), linux, image.Linux, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d.asked()
			i, err := s.Resolve(t.Context(), tc.id, tc.spec, tc.rootfs)
			if err != nil {
				t.Fatal(err)
			}
			if i.Kind != tc.kind {
				t.Errorf("got %v, want %v", i.Kind, tc.kind)
			}
			if diff := cmp.Diff(tc.want, d.asked()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLinuxWhereRuncHasTheWord(t *testing.T) {
	d := startFake(t)
	l := layout(t, "H")
	l.Layers = []string{"sha256:several-files"}
	l.Blobs[l.Layers[0]] = images.Tar("text", []byte("neither"))
	rootfs := d.add(t, "c", l, true)
	for _, args := range [][]string{{"/missing"}, {"/text"}, {"nothing-in-path"}, {"/text/below"}, {}, {""}} {
		i, err := d.source(t).Resolve(t.Context(), "c", command(args...), rootfs)
		if err != nil || i.Kind != image.Linux {
			t.Errorf("%q: got %+v, %v; want linux", args, i, err)
		}
	}
}

func TestTitleNamesTheEntry(t *testing.T) {
	d := startFake(t)
	rootfs := d.add(t, "c", layout(t, "N"), true)
	for arg, want := range map[string]string{"/app.wasm": "app.wasm", "/usr/bin/tool.wasm": "tool.wasm", "/other": "tool.wasm"} {
		i, err := d.source(t).Resolve(t.Context(), "c", command(arg), rootfs)
		if err != nil {
			t.Fatal(err)
		}
		if got := i.Modules[0].Name; got != want || len(i.Modules) != 2 {
			t.Errorf("%s: got %s of %d, want %s of 2", arg, got, len(i.Modules), want)
		}
		for _, exec := range []string{"tool", "tool.wasm", "/bin/tool.wasm"} {
			m, err := i.Find(&specs.Process{Args: []string{exec}})
			if err != nil || m.Name != "tool.wasm" {
				t.Errorf("find %s: got %v, %v", exec, m, err)
			}
		}
		if _, err := i.Find(&specs.Process{Args: []string{"sh"}}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "tool.wasm") {
			t.Errorf("find sh: got %v", err)
		}
	}
}

// An index that has a native and a Wasm image under one name: what lies below the container tells
// which one containerd took.
func TestIndexFollowsTheSnapshot(t *testing.T) {
	d := startFake(t)
	wasm, native := layout(t, "A"), layout(t, "H")
	index := images.MixedIndex(wasm, native)
	d.store(t, wasm.Blobs, true)
	d.store(t, native.Blobs, true)
	d.store(t, index.Blobs, true)
	d.images["mixed"] = &types.Descriptor{MediaType: index.Target.MediaType, Digest: index.Target.Digest, Size: index.Target.Size}
	d.containers["c"] = "mixed"
	for _, of := range []images.Layout{wasm, native} {
		i, err := d.source(t).Resolve(t.Context(), "c", command("/app.wasm"), d.snapshot(t, of))
		if err != nil {
			t.Fatal(err)
		}
		if i.Digest != of.Target.Digest {
			t.Errorf("snapshot of %s: got manifest %s, want %s", of.Name, i.Digest, of.Target.Digest)
		}
	}
}

func TestModuleInTarLayer(t *testing.T) {
	d := startFake(t)
	rootfs := d.add(t, "c", layout(t, "H"), true)
	i, err := d.source(t).Resolve(t.Context(), "c", command("./app.wasm"), rootfs)
	if err != nil {
		t.Fatal(err)
	}
	m, err := i.Find(&specs.Process{Args: []string{"/app.wasm"}, Cwd: "/"})
	if err != nil || m.Digest != images.Digest(module) {
		t.Fatalf("find: got %+v, %v", m, err)
	}
	// A file that changes after it was hashed must not be given out under the old digest.
	lower := strings.TrimPrefix(rootfs[0].Options[3], "lowerdir=")
	if err := os.WriteFile(filepath.Join(lower, "app.wasm"), images.Variant(module, "evil"), 0o755); err != nil {
		t.Fatal(err)
	}
	if f, err := m.Open(); !errdefs.IsFailedPrecondition(err) {
		f.Close()
		t.Errorf("open of a changed file: got %v, want FailedPrecondition", err)
	}
}

func TestModuleInWritableRootIsCopied(t *testing.T) {
	d := startFake(t)
	d.containers["c"] = "" // ctr run --rootfs: no image
	dir := t.TempDir()
	file := filepath.Join(dir, "app.wasm")
	if err := os.WriteFile(file, module, 0o644); err != nil {
		t.Fatal(err)
	}
	spec := command("/app.wasm")
	spec.Root = &specs.Root{Path: dir}
	i, err := d.source(t).Resolve(t.Context(), "c", spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := i.Modules[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(file, images.Variant(module, "evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := i.Modules[0].Verify(f); err != nil {
		t.Errorf("the open module followed the guest's write: %v", err)
	}
	if again, err := i.Modules[0].Open(); !errdefs.IsFailedPrecondition(err) {
		again.Close()
		t.Errorf("open after the write: got %v, want FailedPrecondition", err)
	}
}

func TestSurvivesRestartOfContainerd(t *testing.T) {
	d := startFake(t)
	s := d.source(t)
	rootfs := d.add(t, "c", layout(t, "A"), true)
	for round := range 3 {
		if _, err := s.Resolve(t.Context(), "c", command("/app.wasm"), rootfs); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		d.restart(t)
	}
	d.server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Resolve(ctx, "c", command("/app.wasm"), rootfs); err == nil || !strings.Contains(err.Error(), "is containerd running?") {
		t.Errorf("containerd is away: got %v", err)
	}
	s.Close()
	if _, err := s.Resolve(t.Context(), "c", command("/app.wasm"), rootfs); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: got %v", err)
	}
}

func TestBareConfigTwinsAreRefused(t *testing.T) {
	d := startFake(t)
	s := d.source(t)
	f, m := layout(t, "F"), layout(t, "M")
	rootfs := d.add(t, "c", f, true)
	pod := command("app.wasm")
	pod.Annotations = map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.image-name": f.Ref}
	if _, err := s.Resolve(t.Context(), "c", pod, rootfs); err != nil {
		t.Errorf("alone: %v", err)
	}
	d.add(t, "other", m, true)
	if _, err := s.Resolve(t.Context(), "c", pod, rootfs); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "hachi build") {
		t.Errorf("with a twin: got %v, want FailedPrecondition that says what to do", err)
	}
	if _, err := s.Resolve(t.Context(), "c", command("app.wasm"), rootfs); err != nil {
		t.Errorf("outside of CRI names are exact: %v", err)
	}
	if !slices.Contains(d.asked(), "images.List") {
		t.Error("the images were not compared")
	}
}

// Mounts that cannot be looked into still serve images with Wasm layers.
func TestOpaqueMounts(t *testing.T) {
	d := startFake(t)
	s := d.source(t)
	if err := s.Warm(); err != nil {
		t.Fatal(err)
	}
	d.add(t, "a", layout(t, "A"), false)
	d.add(t, "g", layout(t, "G"), false)
	d.add(t, "h", layout(t, "H"), false)
	for name, rootfs := range map[string][]specs.Mount{
		"erofs":     {{Type: "erofs", Source: "/dev/null"}, {Type: "format/overlay", Options: []string{"lowerdir={{ mount 0 }}"}}},
		"block":     {{Type: "ext4", Source: "/dev/mapper/snap-1"}},
		"data only": {{Type: "overlay", Options: []string{"lowerdir=/a::/b"}}},
		"relative":  {{Type: "bind", Source: "rootfs"}},
		"subfolder": {{Type: "bind", Source: "/", Destination: "/proc"}},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := s.Resolve(t.Context(), "a", command("/app.wasm"), rootfs)
			if err != nil || i.Kind != image.Wasm || !bytes.Equal(readAll(t, &i.Modules[0]), module) {
				t.Errorf("Wasm layer: got %+v, %v", i, err)
			}
			if _, err := s.Resolve(t.Context(), "g", command("/app.wasm"), rootfs); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "overlayfs snapshotter") {
				t.Errorf("Wasm in a tar layer: got %v", err)
			}
			if i, err := s.Resolve(t.Context(), "h", command("/app.wasm"), rootfs); err != nil || i.Kind != image.Linux {
				t.Errorf("Linux image: got %+v, %v", i, err)
			}
		})
	}
}
