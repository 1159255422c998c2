package image_test

import (
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image"
)

// BenchmarkResolve is what a container's start pays: on a connection that is open, and for a tar image
// the hash of its module.
func BenchmarkResolve(b *testing.B) {
	for _, name := range []string{"A", "H"} {
		b.Run(name, func(b *testing.B) {
			d := startFake(b)
			l := layout(b, name)
			rootfs := d.add(b, "c", l, true)
			s := d.source(b)
			for b.Loop() {
				i, err := s.Resolve(b.Context(), "c", command("/app.wasm"), rootfs)
				if err != nil {
					b.Fatal(err)
				}
				f, err := i.Modules[0].Open()
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
	b.Run("linux", func(b *testing.B) {
		d := startFake(b)
		l := layout(b, "H")
		l.Layers = []string{"sha256:native-program"}
		l.Blobs = map[string][]byte{l.Layers[0]: images.Tar("bin/sh", []byte("\x7fELF\x02\x01\x01"))}
		rootfs := d.add(b, "c", l, true)
		s := d.source(b)
		for b.Loop() {
			if i, err := s.Resolve(b.Context(), "c", command("sh"), rootfs); err != nil || i.Kind != image.Linux {
				b.Fatal(i, err)
			}
		}
	})
	b.Run("warmed connection", func(b *testing.B) {
		d := startFake(b)
		rootfs := d.add(b, "c", layout(b, "A"), true)
		for b.Loop() {
			b.StopTimer()
			s := &image.Source{Address: d.socket, Namespace: namespace}
			if err := s.Warm(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
			b.StartTimer()
			if _, err := s.Resolve(b.Context(), "c", command("/app.wasm"), rootfs); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			s.Close()
			b.StartTimer()
		}
	})
	b.Run("new connection", func(b *testing.B) {
		d := startFake(b)
		rootfs := d.add(b, "c", layout(b, "A"), true)
		for b.Loop() {
			s := &image.Source{Address: d.socket, Namespace: namespace}
			if _, err := s.Resolve(b.Context(), "c", command("/app.wasm"), rootfs); err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
}
