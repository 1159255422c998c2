package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"

	"github.com/hachi-run/hachi/internal/testenv"
)

func init() {
	// As containerd's core does it.
	typeurl.Register(&features.Features{}, "types.containerd.io", "opencontainers/runtime-spec", "1", "features", "Features")
}

// info asks a launcher with a PATH that holds nothing but the given scripts.
func (r *rig) info(stdin []byte, scripts map[string]string) (*types.RuntimeInfo, *features.Features) {
	r.t.Helper()
	dir := filepath.Join(r.dir, ".path")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
	r.env = append(r.env, "PATH="+dir)
	got := r.run("", stdin, "-info")
	var info types.RuntimeInfo
	if err := proto.Unmarshal([]byte(got.stdout), &info); err != nil || got.code != 0 || got.stderr != "" {
		r.t.Fatalf("-info: %+v (%v)", got, err)
	}
	value, err := typeurl.UnmarshalAny(info.Features)
	if err != nil {
		r.t.Fatal(err)
	}
	return &info, value.(*features.Features)
}

const goodRunc = `test "$1" = features || exit 1; echo '{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0","mountOptions":["ro","rro"],"linux":{"mountExtensions":{"idmap":{"enabled":true}}}}'`

func TestInfoRepeatsRunc(t *testing.T) {
	r := newRig(t)
	info, f := r.info(nil, map[string]string{"runc": goodRunc})
	if info.Name != "io.containerd.hachi.v1" || info.Version.GetVersion() == "" || info.Options != nil {
		t.Errorf("got %v", info)
	}
	if f.OCIVersionMax != "1.2.0" || !slices.Contains(f.MountOptions, "rro") || !*f.Linux.MountExtensions.IDMap.Enabled {
		t.Errorf("got %+v", f)
	}
}

func TestInfoAsksTheRuncOfTheOptions(t *testing.T) {
	r := newRig(t)
	opts := anyOf(t, &options.Options{BinaryName: "myrunc", SystemdCgroup: true})
	info, f := r.info(marshal(t, opts), map[string]string{"runc": "exit 1", "myrunc": goodRunc})
	if !proto.Equal(info.Options, opts) {
		t.Errorf("options came back as %v", info.Options)
	}
	if f.OCIVersionMax != "1.2.0" {
		t.Errorf("got %+v", f)
	}
}

func TestInfoWithoutRuncsHelp(t *testing.T) {
	for name, scripts := range map[string]map[string]string{
		"no runc":         nil,
		"no features":     {"runc": "echo '{}'; exit 1"},
		"not JSON":        {"runc": "echo usage: runc"},
		"not an object":   {"runc": "echo '[]'"},
		"too much":        {"runc": "while echo '{}'; do :; done"},
		"does not finish": {"runc": "exec /bin/sleep 60"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			start := time.Now()
			info, f := r.info([]byte("\x0a\x02\xff\xff noise"), scripts)
			if took := time.Since(start); took > featuresTimeout+2*time.Second {
				t.Errorf("took %v", took)
			}
			if info.Name != "io.containerd.hachi.v1" || info.Options != nil {
				t.Errorf("got %v", info)
			}
			if !slices.Contains(f.MountOptions, "rro") || slices.Contains(f.MountOptions, "idmap") || *f.Linux.MountExtensions.IDMap.Enabled || !slices.Contains(f.Linux.Namespaces, "network") {
				t.Errorf("says something else than holds for Wasm containers: %+v", f)
			}
		})
	}
}

// The runc of this machine, if it has one.
func TestInfoWithRealRunc(t *testing.T) {
	runc := testenv.NeedTool(t, "runc")
	r := newRig(t)
	_, f := r.info(marshal(t, anyOf(t, &options.Options{BinaryName: runc})), nil)
	if !slices.Contains(f.Linux.Namespaces, "mount") || f.Linux.Cgroup == nil {
		t.Errorf("got %+v", f)
	}
}

func TestVersion(t *testing.T) {
	r := newRig(t)
	got := r.run("", nil, "-v")
	if !strings.HasPrefix(got.stdout, "containerd-shim-hachi-v1 ") || got.stderr != "" || got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if again := r.run("", nil, "--version"); again != got {
		t.Errorf("-v says %+v, --version %+v", got, again)
	}
}
