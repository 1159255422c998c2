package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
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

// TestWhatIsReadIsThere compares with the whole specification's own decoder.
func TestWhatIsReadIsThere(t *testing.T) {
	const config = `{"ociVersion":"1.3.0","hostname":"h","root":{"path":"rootfs","readonly":true},"annotations":{"a":"b"},
		"process":{"terminal":true,"user":{"uid":1,"gid":2,"umask":18,"additionalGids":[3]},"args":["/a.wasm","x"],"env":["A=1"],"cwd":"/c",
			"rlimits":[{"type":"RLIMIT_NOFILE","hard":2,"soft":1}],"oomScoreAdj":-5},
		"mounts":[{"destination":"/m","type":"bind","source":"/s","options":["ro"]}],
		"linux":{"sysctl":{"net.x":"1"},"cgroupsPath":"/p","namespaces":[{"type":"network","path":"/n"}],"maskedPaths":["/proc/x"],"readonlyPaths":["/y"],
			"resources":{"memory":{"limit":1,"swap":2,"reservation":3},"cpu":{"shares":4,"quota":5,"period":6,"cpus":"0","mems":"0"},"pids":{"limit":7},
				"blockIO":{"weight":8,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}]},"hugepageLimits":[{"pageSize":"2MB","limit":10}],"unified":{"cpu.idle":"1"}}}}`
	b, err := Open(write(t, "config.json", config))
	if err != nil {
		t.Fatal(err)
	}
	want := new(specs.Spec)
	if err := json.Unmarshal([]byte(config), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.Spec, cmp.AllowUnexported(specs.LinuxThrottleDevice{}, specs.LinuxWeightDevice{})); diff != "" {
		t.Errorf("not all of it was read (-file +read):\n%s", diff)
	}
}

// TestSaveKeepsTheRest is for Linux containers, whose runtime reads what hachi does not.
func TestSaveKeepsTheRest(t *testing.T) {
	b, err := Open(write(t, "config.json", `{"ociVersion":"1.3.0","hooks":{"poststop":[{"path":"/h"}]},"mounts":[{"destination":"/own"}],
		"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if !b.Mount([]specs.Mount{{Destination: "/more"}, {Destination: "/own"}}) {
		t.Error("a mount was not added")
	}
	b.Spec.Linux.Namespaces[0].Path = "/proc/2/ns/pid"
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.Path, "config.json"))
	want := `{"ociVersion":"1.3.0","mounts":[{"destination":"/own"},{"destination":"/more"}],"hooks":{"poststop":[{"path":"/h"}]},` +
		`"linux":{"namespaces":[{"type":"pid","path":"/proc/2/ns/pid"}],"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}`
	if err != nil || string(text) != want {
		t.Errorf("saved %s, %v; want %s", text, err, want)
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
