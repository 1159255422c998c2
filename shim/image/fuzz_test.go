package image

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/shim/image/imagepb"
)

// FuzzSpec gives the reader of OCI specs and mounts strange ones; whatever it opens must lie in the
// layers it was given.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"process":{"args":["/app.wasm"],"cwd":"/","env":["PATH=/bin:"]},"root":{"path":"rootfs"}}`), "overlay", "UPPER", "LOWER")
	f.Add([]byte(`{"process":{"args":["../../link/app.wasm"],"cwd":"/sub"},"root":{}}`), "bind", "UPPER", `a\:b:c`)
	f.Add([]byte(`{"process":{"args":["up"],"env":["PATH=:/sub:../.."]}}`), "overlay", "", `LOWER:UPPER`)
	f.Fuzz(func(t *testing.T, raw []byte, kind, upper, lower string) {
		var spec specs.Spec
		if json.Unmarshal(raw, &spec) != nil {
			t.Skip()
		}
		base := t.TempDir()
		for _, dir := range []string{"upper/sub", "lower/sub"} {
			if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		link := func(target, name string) {
			if err := os.Symlink(target, filepath.Join(base, name)); err != nil {
				t.Fatal(err)
			}
		}
		link("../../outside", "upper/up")
		link("/sub/../link", "lower/loop")
		link("/", "lower/link")
		for _, file := range []string{"outside", "lower/app.wasm", "lower/sub/up"} {
			if err := os.WriteFile(filepath.Join(base, file), []byte("\x00asm\x01\x00\x00\x00"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		place := strings.NewReplacer("UPPER", base+"/upper", "LOWER", base+"/lower")
		upper, lower = place.Replace(upper), place.Replace(lower)
		var mounts []specs.Mount
		if kind != "" {
			mounts = []specs.Mount{{Type: kind, Source: upper, Options: []string{"lowerdir=" + lower, "upperdir=" + upper}}}
		}
		if spec.Root != nil {
			spec.Root.Path = "" // an absolute root would be a place of this machine
		}
		r := newRootfs(mounts, &spec)
		if r == nil {
			return
		}
		for _, dir := range r.layers {
			if !strings.HasPrefix(filepath.Clean(dir), base) {
				return
			}
		}
		file, err := r.program(spec.Process)
		if err != nil || file == nil {
			return
		}
		defer file.Close()
		real, err := os.Readlink("/proc/self/fd/" + strconv.FormatUint(uint64(file.Fd()), 10))
		if err != nil || !strings.HasPrefix(real, base+"/upper/") && !strings.HasPrefix(real, base+"/lower/") {
			t.Errorf("%s: opened %s, %v", raw, real, err)
		}
		if file.info.Mode&unix.S_IFMT != unix.S_IFREG {
			t.Errorf("%s: mode %o", raw, file.info.Mode)
		}
	})
}

// FuzzReply gives the readers of containerd's replies strange ones: they answer, or say that they cannot.
func FuzzReply(f *testing.F) {
	f.Add([]byte("\x0a\x0e\x0a\x04name\x1a\x06\x0a\x01m\x18\x80\x01"))
	f.Add([]byte("\x08\x07\x12\x03one"))
	f.Add([]byte("\x0a\x7f"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, reply := range []interface{ UnmarshalVT([]byte) error }{
			new(imagepb.GetContainerResponse), new(imagepb.GetImageResponse), new(imagepb.ListImagesResponse), new(imagepb.ViewSnapshotResponse),
		} {
			if err := understood(reply.UnmarshalVT(raw)); err != nil && !errdefs.IsInternal(err) {
				t.Errorf("%x: got %v", raw, err)
			}
		}
		var data imagepb.ReadContentResponse
		if err := understood(data.UnmarshalVTUnsafe(raw)); err == nil && len(data.Data) > len(raw) {
			t.Errorf("%x: got %x", raw, data.Data)
		}
	})
}
