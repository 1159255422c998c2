package image_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image"
)

// TestRealContainerd imports every layout into containerd, makes a container of it, and reads it with
// the spec and the mounts that containerd then has: what a task's Create would get.
func TestRealContainerd(t *testing.T) {
	testenv.NeedRoot(t)
	for _, version := range daemon.Versions {
		t.Run(version, func(t *testing.T) {
			d := daemon.Test(t, version, daemon.Options{})
			s := &image.Source{Address: d.Address, Namespace: d.Mark()}
			t.Cleanup(func() { s.Close() })
			for _, l := range images.Layouts(module) {
				verdict := l.Ctr
				if strings.HasPrefix(version, "1.") {
					verdict = l.Ctr17
				}
				if verdict != images.OK { // ctr container create knows no --platform
					continue
				}
				t.Run(l.Name, func(t *testing.T) {
					spec, mounts := create(t, d, l)
					began := time.Now()
					i, err := s.Resolve(t.Context(), "c-"+l.Name, spec, mounts)
					took := time.Since(began)
					if err != nil {
						t.Fatal(err)
					}
					if i.Kind != image.Wasm || i.Modules[0].Digest != images.Digest(module) || !bytes.Equal(readAll(t, &i.Modules[0]), module) {
						t.Errorf("got %+v", i)
					}
					t.Logf("%s mount, resolved in %v", mounts[0].Type, took)
				})
			}
			stored(t, d, s)
			l := images.Layouts(module)[0]
			l.Name = "gone"
			spec, mounts := create(t, d, l)
			if _, err := d.Ctr(t.Context(), "-n", d.Mark(), "image", "rm", "--sync", l.Ref); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Resolve(t.Context(), "c-gone", spec, mounts); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "layout-a") {
				t.Errorf("image removed: got %v", err)
			}
		})
	}
}

// stored reads an image without a container, whose module is in a tar layer that containerd has unpacked, and leaves no
// view behind.
func stored(t *testing.T, d *daemon.Daemon, s *image.Source) {
	t.Helper()
	err := s.Stored(t.Context(), layout(t, "H").Ref, "overlayfs", func(i *image.Image) error {
		if i.Kind != image.Wasm || !bytes.Equal(readAll(t, &i.Modules[0]), module) {
			t.Errorf("stored: got %+v", i)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if list, err := d.Ctr(t.Context(), "-n", d.Mark(), "snapshot", "ls"); err != nil || strings.Contains(list, "hachi-prepare") {
		t.Errorf("snapshots: %s, %v", list, err)
	}
	collected := false
	err = s.Stored(t.Context(), layout(t, "H").Ref, "overlayfs", func(i *image.Image) error {
		list, err := d.Ctr(t.Context(), "-n", d.Mark(), "snapshot", "ls")
		if err != nil {
			return err
		}
		for _, key := range strings.Fields(list) {
			if strings.HasPrefix(key, "hachi-prepare-") {
				collected = true
				if _, err := d.Ctr(t.Context(), "-n", d.Mark(), "snapshot", "rm", key); err != nil {
					return err
				}
			}
		}
		if !bytes.Equal(readAll(t, &i.Modules[0]), module) {
			t.Error("without its view the image has another module")
		}
		return nil
	})
	if err != nil || !collected {
		t.Errorf("the view was collected while the image was read: %v, %v", collected, err)
	}
	if err := s.Stored(t.Context(), layout(t, "H").Ref, "nosuch", nil); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("no such snapshotter: got %v", err)
	}
}

// create makes a container, without a task, and asks containerd for its spec and mounts.
func create(t *testing.T, d *daemon.Daemon, l images.Layout) (*specs.Spec, []specs.Mount) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, l.Archive, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Ctr(t.Context(), "-n", d.Mark(), "image", "import", "--all-platforms", "--no-unpack", archive); err != nil {
		t.Fatal(err)
	}
	id := "c-" + l.Name
	if _, err := d.Ctr(t.Context(), "-n", d.Mark(), "container", "create", l.Ref, id); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+d.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "containerd-namespace", d.Mark())
	c, err := containers.NewContainersClient(conn).Get(ctx, &containers.GetContainerRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := snapshots.NewSnapshotsClient(conn).Mounts(ctx, &snapshots.MountsRequest{Snapshotter: c.Container.Snapshotter, Key: c.Container.SnapshotKey})
	if err != nil {
		t.Fatal(err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(c.Container.Spec.Value, spec); err != nil {
		t.Fatal(err)
	}
	var out []specs.Mount
	for _, m := range mounts.Mounts {
		out = append(out, specs.Mount{Destination: m.Target, Type: m.Type, Source: m.Source, Options: m.Options})
	}
	return spec, out
}
