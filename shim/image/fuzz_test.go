package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
		var mounts []*types.Mount
		if kind != "" {
			mounts = []*types.Mount{{Type: kind, Source: upper, Options: []string{"lowerdir=" + lower, "upperdir=" + upper}}}
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
	image := request("\x0a\x04name\x1a\x06\x0a\x01m\x18\x80\x01")
	f.Add(append([]byte{0, 0, 0, 0, byte(len(image))}, image...))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 0, 0, 0, 1, 0})
	f.Add([]byte{0, 0, 0, 0, 2, 0x0a, 0x7f})
	f.Fuzz(func(t *testing.T, raw []byte) {
		body := &http.Response{Body: io.NopCloser(bytes.NewReader(raw))}
		for message := []byte(nil); ; {
			var err error
			if message, err = readMessage(t.Context(), body, message); err != nil {
				if _, ok := status.FromError(err); !ok && !errors.Is(err, io.EOF) {
					t.Errorf("%x: got %v, which has no status", raw, err)
				}
				return
			}
			_, contained := parseContainer(message)
			_, data := parseData(message)
			_, images := parseImages(message)
			_, mounts := parseMounts(message)
			for _, err := range []error{contained, data, images, mounts} {
				if err != nil && status.Code(err) != codes.Internal {
					t.Errorf("%x: got %v", message, err)
				}
			}
		}
	})
}
