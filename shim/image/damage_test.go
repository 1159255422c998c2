package image_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image"
)

// Every fault gives an error of the right kind that names the image and says what to do, with the
// content read from containerd's directory and from its service.
func TestDamagedImages(t *testing.T) {
	a := layout(t, "A")
	manifest := a.Target.Digest
	flip := func(b []byte) []byte {
		out := bytes.Clone(b)
		out[len(out)/2] ^= 1
		return out
	}
	for _, tc := range []struct {
		name   string
		damage func(d *fake, l *images.Layout)
		kind   func(error) bool
		says   string
	}{
		{"missing layer", func(_ *fake, l *images.Layout) { delete(l.Blobs, images.Digest(module)) }, errdefs.IsNotFound, "pull or import it again"},
		{"missing manifest", func(_ *fake, l *images.Layout) { delete(l.Blobs, manifest) }, errdefs.IsNotFound, "pull or import it again"},
		{"truncated manifest", func(_ *fake, l *images.Layout) { l.Blobs[manifest] = l.Blobs[manifest][:100] }, errdefs.IsDataLoss, "remove the image and pull it again"},
		{"manifest with a flipped bit", func(_ *fake, l *images.Layout) { l.Blobs[manifest] = flip(l.Blobs[manifest]) }, errdefs.IsDataLoss, "digest"},
		{"grown layer", func(_ *fake, l *images.Layout) {
			l.Blobs[images.Digest(module)] = append(bytes.Clone(module), 0)
		}, errdefs.IsDataLoss, "bytes"},
		{"no image", func(d *fake, l *images.Layout) { delete(d.images, l.Ref) }, errdefs.IsNotFound, "layout-a"},
		{"no container", func(d *fake, _ *images.Layout) { delete(d.containers, "c") }, errdefs.IsNotFound, "container"},
		{"huge manifest", func(d *fake, l *images.Layout) { d.images[l.Ref].Size = 1 << 40 }, errdefs.IsInvalidArgument, "exceed"},
		{"negative size", func(d *fake, l *images.Layout) { d.images[l.Ref].Size = -1 }, errdefs.IsInvalidArgument, "size -1"},
		{"hostile digest", func(d *fake, l *images.Layout) { d.images[l.Ref].Digest = "sha256:../../../../etc/passwd" }, errdefs.IsInvalidArgument, "digest"},
		{"unknown media type", func(d *fake, l *images.Layout) { d.images[l.Ref].MediaType = "application/x-other" }, errdefs.IsInvalidArgument, "application/x-other"},
		{"deep nesting", swap(strings.Repeat(`{"a":[`, 1000)), errdefs.IsInvalidArgument, "nested"},
		{"not json", swap(`manifest`), errdefs.IsInvalidArgument, "invalid character"},
		{"manifest and index in one", swap(`{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`), errdefs.IsInvalidArgument, "index"},
		{"schema 1", swap(`{"schemaVersion":1,"fsLayers":[]}`), errdefs.IsInvalidArgument, "schema 1"},
		{"layer with a path for a digest", swap(`{"schemaVersion":2,"config":{"digest":"sha256:` + strings.Repeat("0", 64) + `"},"layers":[{"mediaType":"application/wasm","digest":"sha256:/etc/shadow","size":1}]}`), errdefs.IsInvalidArgument, "digest"},
	} {
		for _, from := range []string{"directory", "service"} {
			t.Run(tc.name+" from "+from, func(t *testing.T) {
				d := startFake(t)
				l := layout(t, "A")
				rootfs := d.add(t, "c", images.Layout{Ref: l.Ref, Target: l.Target, Name: "A"}, false)
				tc.damage(d, &l)
				d.store(t, l.Blobs, from == "directory")
				i, err := d.source(t).Resolve(t.Context(), "c", command("/app.wasm"), rootfs)
				if err == nil { // what is wrong with a module shows when it is opened
					_, err = i.Modules[0].Open()
				}
				if err == nil || !tc.kind(err) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("got %v; want it to say %q", err, tc.says)
				}
			})
		}
	}
}

// swap makes text the image's manifest.
func swap(text string) func(*fake, *images.Layout) {
	return func(d *fake, l *images.Layout) {
		raw := []byte(text)
		l.Blobs[images.Digest(raw)] = raw
		d.images[l.Ref].Digest, d.images[l.Ref].Size = images.Digest(raw), int64(len(raw))
	}
}

func TestModulesThatCannotRun(t *testing.T) {
	for name, tc := range map[string]struct {
		module string
		says   string
	}{
		"component": {"\x00asm\x0d\x00\x01\x00", "build for wasip1 instead of wasip2"},
		"version 9": {"\x00asm\x09\x00\x00\x00", "unknown WebAssembly version"},
		"truncated": {"\x00asm", "truncated"},
		"empty":     {"", "not a WebAssembly module"},
		"elf":       {"\x7fELF\x02\x01\x01\x00", "ELF program"},
	} {
		t.Run(name, func(t *testing.T) {
			d := startFake(t)
			l := images.Layouts([]byte(tc.module))[0]
			rootfs := d.add(t, "c", l, true)
			i, err := d.source(t).Resolve(t.Context(), "c", command("/app.wasm"), rootfs)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := i.Modules[0].Open(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v; want it to say %q", err, tc.says)
			}
		})
	}
}

func TestWasmImageWithoutModule(t *testing.T) {
	d := startFake(t)
	rootfs := d.add(t, "c", layout(t, "G"), true)
	_, err := d.source(t).Resolve(t.Context(), "c", command("/wrong.wasm"), rootfs)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), `no module at "/wrong.wasm"`) {
		t.Errorf("wrong path: got %v", err)
	}
	_, err = d.source(t).Resolve(t.Context(), "c", command(), rootfs)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "no command") {
		t.Errorf("no command: got %v", err)
	}
}

func TestBlobThatIsALinkIsNotFollowed(t *testing.T) {
	d := startFake(t)
	l := layout(t, "A")
	rootfs := d.add(t, "c", l, true)
	blob := filepath.Join(d.root, "io.containerd.content.v1.content/blobs/sha256", images.Digest(module)[7:])
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, images.Variant(module, "x")[:len(module)], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, blob); err != nil {
		t.Fatal(err)
	}
	i, err := d.source(t).Resolve(t.Context(), "c", command("/app.wasm"), rootfs)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, &i.Modules[0]); !bytes.Equal(got, module) {
		t.Error("the link was followed")
	}
}

func TestOtherNamespaceIsNotSeen(t *testing.T) {
	d := startFake(t)
	rootfs := d.add(t, "c", layout(t, "A"), true)
	s := &image.Source{Address: "unix://" + d.socket, Namespace: "other"}
	defer s.Close()
	if _, err := s.Resolve(t.Context(), "c", command("/app.wasm"), rootfs); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
}

func TestNoDaemon(t *testing.T) {
	s := &image.Source{Address: filepath.Join(t.TempDir(), "none.sock"), Namespace: "default"}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := s.Resolve(ctx, "c", command("/app.wasm"), []specs.Mount{})
	if err == nil || !strings.Contains(err.Error(), "none.sock") || !strings.Contains(err.Error(), "is containerd running?") {
		t.Errorf("got %v", err)
	}
}
