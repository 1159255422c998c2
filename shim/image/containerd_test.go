package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image"
)

// namespace is the one that the fake serves; other namespaces are empty.
const namespace = "k8s.io"

// module is a Wasm module that does nothing: an exported _start with an empty body.
var module = []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x04\x01\x02\x00\x0b")

// fake is containerd's edge: the three services the package asks, on a unix socket, and a root
// directory like containerd's.
type fake struct {
	socket, root string
	server       *grpc.Server

	mu         sync.Mutex
	calls      []string // guarded by mu
	containers map[string]string
	images     map[string]*types.Descriptor
	blobs      map[string][]byte
}

func startFake(t testing.TB) *fake {
	t.Helper()
	d := &fake{
		socket: filepath.Join(t.TempDir(), "c.sock"), root: t.TempDir(),
		containers: map[string]string{}, images: map[string]*types.Descriptor{}, blobs: map[string][]byte{},
	}
	d.listen(t)
	t.Cleanup(func() { d.server.Stop() })
	return d
}

func (d *fake) listen(t testing.TB) {
	t.Helper()
	os.Remove(d.socket)
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	d.server = grpc.NewServer()
	containers.RegisterContainersServer(d.server, containersAPI{d: d})
	imagesapi.RegisterImagesServer(d.server, imagesAPI{d: d})
	content.RegisterContentServer(d.server, contentAPI{d: d})
	server := d.server
	go server.Serve(l) // ends with Stop in Cleanup
}

// restart drops every connection, as a restart of containerd does.
func (d *fake) restart(t testing.TB) {
	t.Helper()
	d.server.Stop()
	d.listen(t)
}

// store puts blobs into the content store; with files, also where the snapshotter's paths lead.
func (d *fake) store(t testing.TB, blobs map[string][]byte, files bool) {
	t.Helper()
	for digest, blob := range blobs {
		d.blobs[digest] = blob
		if files {
			d.file(t, digest, blob)
		}
	}
}

func (d *fake) file(t testing.TB, digest string, blob []byte) {
	t.Helper()
	dir := filepath.Join(d.root, "io.containerd.content.v1.content/blobs/sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, strings.TrimPrefix(digest, "sha256:")), blob, 0o444); err != nil {
		t.Fatal(err)
	}
}

// add imports a layout under its name and makes a container of it; the result is the task's rootfs.
func (d *fake) add(t testing.TB, container string, l images.Layout, files bool) []specs.Mount {
	t.Helper()
	d.store(t, l.Blobs, files)
	d.images[l.Ref] = &types.Descriptor{MediaType: l.Target.MediaType, Digest: l.Target.Digest, Size: l.Target.Size}
	d.containers[container] = l.Ref
	return d.snapshot(t, l)
}

// snapshot unpacks a layout's tar layers the way the overlayfs snapshotter lays them out.
func (d *fake) snapshot(t testing.TB, l images.Layout) []specs.Mount {
	t.Helper()
	base := filepath.Join(d.root, "io.containerd.snapshotter.v1.overlayfs/snapshots")
	var lower []string
	for _, digest := range l.Layers {
		dir := filepath.Join(base, digest[7:19], "fs")
		unpack(t, l.Blobs[digest], dir)
		lower = append([]string{dir}, lower...)
	}
	upper := filepath.Join(base, "active-"+l.Name, "fs")
	if err := os.MkdirAll(upper, 0o755); err != nil {
		t.Fatal(err)
	}
	if len(lower) == 0 {
		return []specs.Mount{{Type: "bind", Source: upper, Options: []string{"rbind", "rw"}}}
	}
	return []specs.Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"index=off", "workdir=" + filepath.Dir(upper) + "/work", "upperdir=" + upper, "lowerdir=" + strings.Join(lower, ":"),
	}}}
}

func unpack(t testing.TB, layer []byte, dir string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, header.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, header.FileInfo().Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

func (d *fake) source(t testing.TB) *image.Source {
	t.Helper()
	s := &image.Source{Address: d.socket, Namespace: namespace}
	t.Cleanup(func() { s.Close() })
	return s
}

// asked returns the calls since it was last called.
func (d *fake) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

// enter notes a call and says whether its namespace is the served one.
func (d *fake) enter(ctx context.Context, call string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, call)
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("containerd-namespace"); len(got) != 1 || got[0] != namespace {
		return status.Errorf(codes.NotFound, "%s: namespace %v", call, got)
	}
	return nil
}

func command(args ...string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/usr/local/bin:/bin"}}}
}

type containersAPI struct {
	containers.UnimplementedContainersServer
	d *fake
}

func (a containersAPI) Get(ctx context.Context, r *containers.GetContainerRequest) (*containers.GetContainerResponse, error) {
	if err := a.d.enter(ctx, "containers.Get"); err != nil {
		return nil, err
	}
	name, ok := a.d.containers[r.ID]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "container %q", r.ID)
	}
	return &containers.GetContainerResponse{Container: &containers.Container{ID: r.ID, Image: name}}, nil
}

type imagesAPI struct {
	imagesapi.UnimplementedImagesServer
	d *fake
}

func (a imagesAPI) Get(ctx context.Context, r *imagesapi.GetImageRequest) (*imagesapi.GetImageResponse, error) {
	if err := a.d.enter(ctx, "images.Get"); err != nil {
		return nil, err
	}
	target, ok := a.d.images[r.Name]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "image %q", r.Name)
	}
	return &imagesapi.GetImageResponse{Image: &imagesapi.Image{Name: r.Name, Target: target}}, nil
}

func (a imagesAPI) List(ctx context.Context, _ *imagesapi.ListImagesRequest) (*imagesapi.ListImagesResponse, error) {
	if err := a.d.enter(ctx, "images.List"); err != nil {
		return nil, err
	}
	reply := &imagesapi.ListImagesResponse{}
	for name, target := range a.d.images {
		reply.Images = append(reply.Images, &imagesapi.Image{Name: name, Target: target})
	}
	return reply, nil
}

type contentAPI struct {
	content.UnimplementedContentServer
	d *fake
}

func (a contentAPI) Read(r *content.ReadContentRequest, stream content.Content_ReadServer) error {
	if err := a.d.enter(stream.Context(), "content.Read"); err != nil {
		return err
	}
	blob, ok := a.d.blobs[r.Digest]
	if !ok {
		return status.Errorf(codes.NotFound, "content %s", r.Digest)
	}
	for offset := 0; offset < len(blob); {
		n := min(len(blob)-offset, 32<<10)
		if err := stream.Send(&content.ReadContentResponse{Offset: int64(offset), Data: blob[offset : offset+n]}); err != nil {
			return err
		}
		offset += n
	}
	return nil
}
