package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpenFillsInWhatASpecMayLeaveOut(t *testing.T) {
	b, err := Open(write(t, "config.json", `{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if b.Spec.Process == nil || b.Spec.Linux == nil || !b.Sandbox() {
		t.Errorf("got process %v, linux %v, sandbox %v; want both set and a sandbox", b.Spec.Process, b.Spec.Linux, b.Sandbox())
	}
}

func TestOpenRefusesABadBundle(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		kind func(error) bool
	}{
		"truncated": {`{"process":{"args":["a"`, errdefs.IsInvalidArgument},
		"not a map": {`[1]`, errdefs.IsInvalidArgument},
		"bad type":  {`{"process":{"args":"a"}}`, errdefs.IsInvalidArgument},
		"huge":      {strings.Repeat(" ", maxSpec) + "{}", errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(write(t, "config.json", c.text)); !c.kind(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := Open(t.TempDir()); !errdefs.IsNotFound(err) {
		t.Errorf("bundle without config.json: got %v, want NotFound", err)
	}
}

func TestRecordIsForgottenOnce(t *testing.T) {
	b := Bundle{Path: t.TempDir()}
	if err := b.Record(Leftovers{Cgroups: []string{"/sys/fs/cgroup/x"}}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(b.Path, leftovers))
	if err != nil || string(data) != `{"cgroups":["/sys/fs/cgroup/x"]}` {
		t.Errorf("record is %s, %v", data, err)
	}
	for range 2 {
		if err := b.Forget(); err != nil {
			t.Errorf("forget: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"process":{"user":{"uid":1},"args":["/a.wasm"]},"linux":{"namespaces":[{"type":"network","path":"/x"}]}}`))
	f.Add([]byte(`{"linux":{"resources":{"memory":{"limit":-1}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := parse(data)
		if err == nil && (spec.Process == nil || spec.Linux == nil) {
			t.Fatal("a spec without process or linux")
		}
	})
}
