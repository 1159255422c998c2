// Command image packs hachi's programs into the container image that the chart's pods run: nothing else is in it.
//
//	image [-o FILE] [-name NAME] [-push NAME] ARCH=DIR...
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/hachi-run/hachi/internal/version"
	"github.com/hachi-run/hachi/shim/image/pack"
	"github.com/hachi-run/hachi/shim/install"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run returns 0 when all went well, 1 when it did not, 64 for a wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("o", "hachi-node.tar", "OCI archive to write")
	name := flags.String("name", "ghcr.io/hachi-run/hachi-node:"+version.Get().Version, "the image's name")
	push := flags.String("push", "", "also push it, under this name")
	if err := flags.Parse(args); err != nil {
		return 64
	}
	if flags.NArg() == 0 {
		fmt.Fprintln(stderr, "image: no programs (give the folders that hold them as amd64=bin)")
		return 64
	}
	if err := write(ctx, *out, *name, flags.Args()); err != nil {
		fmt.Fprintln(stderr, "image:", err)
		return 1
	}
	fmt.Fprintf(stderr, "wrote %s (%s)\n", *out, *name)
	if *push == "" {
		return 0
	}
	pinned, err := upload(ctx, *out, *push)
	if err != nil {
		fmt.Fprintln(stderr, "image:", err)
		return 1
	}
	fmt.Fprintln(stdout, pinned)
	return 0
}

// write writes the archive: an image of one architecture, or an index of several.
func write(ctx context.Context, out, name string, folders []string) error {
	full, err := pack.FullName(name)
	if err != nil {
		return err
	}
	created, err := pack.Epoch(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	var images []mutate.IndexAddendum
	for _, f := range folders {
		arch, dir, ok := strings.Cut(f, "=")
		if !ok {
			return fmt.Errorf("%q: want ARCH=DIR", f)
		}
		img, err := pod(arch, dir, created)
		if err != nil {
			return fmt.Errorf("pack %s: %w", dir, err)
		}
		images = append(images, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	return archive(ctx, out, full, images)
}

// pod is the image of one architecture.
func pod(arch, dir string, created time.Time) (v1.Image, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	// /host and /tmp are where pods mount things on a root file system that cannot be written.
	for _, d := range []string{"bin/", "host/", "run/", "sys/", "proc/", "dev/", "etc/", "tmp/", "var/"} {
		if err := w.WriteHeader(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: created}); err != nil {
			return nil, err
		}
	}
	for _, name := range install.Programs {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := isStatic(raw, arch); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := w.WriteHeader(&tar.Header{Name: path.Join("bin", name), Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(raw)), ModTime: created}); err != nil {
			return nil, err
		}
		if _, err := w.Write(raw); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, l)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: v1.Time{Time: created},
		RootFS: rootFS(img),
		Config: v1.Config{
			Entrypoint: []string{"/bin/hachi"}, Env: []string{"PATH=/bin"}, User: "0", WorkingDir: "/",
			Labels: map[string]string{
				"org.opencontainers.image.title":    "hachi-node",
				"org.opencontainers.image.source":   "https://github.com/hachi-run/hachi",
				"org.opencontainers.image.licenses": "Apache-2.0",
				"org.opencontainers.image.version":  version.Get().Version,
			},
		},
	})
}

func rootFS(img v1.Image) v1.RootFS {
	c, err := img.ConfigFile()
	if err != nil {
		return v1.RootFS{Type: "layers"}
	}
	return c.RootFS
}

func upload(ctx context.Context, file, name string) (string, error) {
	i, err := pack.OpenArchive(file, "")
	if err != nil {
		return "", err
	}
	defer i.Close()
	return pack.Registry{}.Push(ctx, i, name)
}
