package runc_test

import (
	"os"
	"path/filepath"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hachi-run/hachi/shim/runc"
)

func wrap(t *testing.T, v any) *anypb.Any {
	t.Helper()
	a, err := typeurl.MarshalAnyToProto(v)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOptionsBecomeRuncs(t *testing.T) {
	const text = "SystemdCgroup = true\nBinaryName = \"/usr/bin/crun\"\nRoot = \"/run/x\"\nUnknown = 1\n"
	file := filepath.Join(t.TempDir(), "runc.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := &runcoptions.Options{SystemdCgroup: true, BinaryName: "/usr/bin/crun", Root: "/run/x"}
	for name, in := range map[string]any{
		"body":   &runtimeoptions.Options{TypeUrl: "runc", ConfigBody: []byte(text)},
		"file":   &runtimeoptions.Options{ConfigPath: file},
		"both":   &runtimeoptions.Options{ConfigPath: "/no/such/file", ConfigBody: []byte(text)},
		"runc's": want,
	} {
		out, err := runc.Options(wrap(t, in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := typeurl.UnmarshalAny(out)
		if m, ok := got.(proto.Message); err != nil || !ok || !proto.Equal(m, want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if out, err := runc.Options(nil); out != nil || err != nil {
		t.Errorf("none: got %v, %v", out, err)
	}
}

func TestOptionsThatAreNoneAreRefused(t *testing.T) {
	for name, in := range map[string]*anypb.Any{
		"not TOML":       wrap(t, &runtimeoptions.Options{ConfigBody: []byte("SystemdCgroup = maybe")}),
		"another's":      wrap(t, &runcoptions.CheckpointOptions{}),
		"unknown type":   {TypeUrl: "example.test/none", Value: []byte("x")},
		"broken message": {TypeUrl: "containerd.runc.v1.Options", Value: []byte{0xff}},
	} {
		if out, err := runc.Options(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %v, %v", name, out, err)
		}
	}
	if _, err := runc.Options(wrap(t, &runtimeoptions.Options{ConfigPath: "/no/such/file"})); err == nil {
		t.Error("a file that is not there was read")
	}
}
