package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hachi-run/hachi/internal/testenv"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func anyOf(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestReadBootstrap(t *testing.T) {
	dir := "/run/other/s"
	full := &bootapi.BootstrapParams{
		InstanceID: "web", Namespace: "k8s.io", LogLevel: bootapi.LogLevel_LOG_LEVEL_DEBUG, ContainerdVersion: "2.4.2",
		ContainerdGrpcAddress: "/c.sock", ContainerdTtrpcAddress: "/c.sock.ttrpc", ContainerdBinary: "/usr/bin/containerd", SocketDir: &dir,
	}
	if err := full.AddExtension(&options.Options{SystemdCgroup: true}); err != nil {
		t.Fatal(err)
	}
	own := flags{id: "web", namespace: "k8s.io", address: "/flag.sock"}
	debug := own
	debug.debug = true
	legacy := bootstrap{form: formBare, id: "web", namespace: "k8s.io", address: "/flag.sock"}
	for _, c := range []struct {
		name  string
		flags flags
		stdin []byte
		want  bootstrap
	}{
		{"2.3 and later", own, marshal(t, full),
			bootstrap{formProto, "web", "k8s.io", "/c.sock", "/c.sock.ttrpc", dir, true}},
		{"2.3, little said", own, marshal(t, &bootapi.BootstrapParams{InstanceID: "web", Namespace: "k8s.io"}),
			bootstrap{form: formProto, id: "web", namespace: "k8s.io", address: "/flag.sock"}},
		{"2.3, trace", own, marshal(t, &bootapi.BootstrapParams{InstanceID: "web", Namespace: "k8s.io", LogLevel: bootapi.LogLevel_LOG_LEVEL_TRACE}),
			bootstrap{form: formProto, id: "web", namespace: "k8s.io", address: "/flag.sock", debug: true}},
		{"2.3, panic level", own, marshal(t, &bootapi.BootstrapParams{InstanceID: "web", Namespace: "k8s.io", LogLevel: bootapi.LogLevel_LOG_LEVEL_PANIC}),
			bootstrap{form: formProto, id: "web", namespace: "k8s.io", address: "/flag.sock"}},
		{"2.3, -debug", debug, marshal(t, &bootapi.BootstrapParams{InstanceID: "web", Namespace: "k8s.io"}),
			bootstrap{form: formProto, id: "web", namespace: "k8s.io", address: "/flag.sock", debug: true}},
		{"older, no options", own, nil, legacy},
		{"older, runc options", own, marshal(t, anyOf(t, &options.Options{BinaryName: "crun"})), legacy},
		{"older, CRI options", own, marshal(t, anyOf(t, &runtimeoptions.Options{TypeUrl: "x", ConfigBody: []byte("a = 1\n")})), legacy},
		{"params of another container", own, marshal(t, &bootapi.BootstrapParams{InstanceID: "db", Namespace: "k8s.io"}), legacy},
		{"params of another namespace", own, marshal(t, &bootapi.BootstrapParams{InstanceID: "web", Namespace: "default"}), legacy},
		{"cut off", own, marshal(t, full)[:20], legacy},
		{"noise", own, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), legacy},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readBootstrap(&c.flags, c.stdin, func() form { return formBare })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, *got, cmp.AllowUnexported(bootstrap{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBootstrapNeedsIdentifiers(t *testing.T) {
	for _, c := range []struct{ id, namespace, want string }{
		{"", "default", `read bootstrap: -id "": not an identifier`},
		{"../web", "default", `read bootstrap: -id "../web": not an identifier`},
		{"web", "", `read bootstrap: -namespace "": not an identifier`},
		{"web", "a/b", `read bootstrap: -namespace "a/b": not an identifier`},
		{strings.Repeat("x", 77), "default", `not an identifier`},
	} {
		_, err := readBootstrap(&flags{id: c.id, namespace: c.namespace}, nil, func() form { return formBare })
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%q, %q: got %v, want %s", c.id, c.namespace, err, c.want)
		}
	}
}

// What 2.3 and later read.
func TestAnswerAsMessage(t *testing.T) {
	var got bootapi.BootstrapResult
	if err := proto.Unmarshal(formProto.answer("unix:///run/s/1"), &got); err != nil {
		t.Fatal(err)
	}
	var caps types.MountCapabilities
	if found, err := got.FindExtension(&caps); !found || err != nil {
		t.Errorf("no mount capabilities: %v", err)
	}
	want := &bootapi.BootstrapResult{Version: 3, Address: "unix:///run/s/1", Protocol: "ttrpc"}
	if err := want.AddExtension(&types.MountCapabilities{}); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(want, &got) {
		t.Errorf("got %v, want %v", &got, want)
	}
}

// What 2.0 to 2.2 read, here by the rules of their client.
func TestAnswerAsJSON(t *testing.T) {
	var got struct {
		Version           int
		Address, Protocol string
	}
	address := "unix:///run/\"quoted\"\\/\n1"
	if err := json.Unmarshal(formJSON.answer(address), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != 3 || got.Address != address || got.Protocol != "ttrpc" {
		t.Errorf("got %+v", got)
	}
	// 2.3 must not take it for a message, if it ever gets it.
	if err := proto.Unmarshal(formJSON.answer("unix:///run/s/1"), &bootapi.BootstrapResult{}); err == nil {
		t.Error("the JSON answer is a valid message too")
	}
}

// caller builds a stand-in for containerd as a part of the given module and returns its executable.
func caller(t *testing.T, module, mod string) string {
	t.Helper()
	dir := testenv.ShortDir(t)
	source, err := os.ReadFile("testdata/caller/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"go.mod":                 "module " + module + "\n\ngo 1.24\n" + mod,
		"cmd/containerd/main.go": string(source),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exe := filepath.Join(dir, "containerd")
	if err := gobuild(dir, exe, "./cmd/containerd"); err != nil {
		t.Fatal(err)
	}
	return exe
}

// The same start, called by each generation of containerd: the answer is the one that it reads.
func TestEveryContainerdGetsItsForm(t *testing.T) {
	v1, v2 := caller(t, "github.com/containerd/containerd", ""), caller(t, "github.com/containerd/containerd/v2", "")
	for _, c := range []struct {
		name   string
		caller string
		params bool
		form   form
	}{
		{"1.7", v1, false, formBare},
		{"2.0", v2, false, formJSON},
		{"2.4", v2, true, formProto},
		{"a shell", "/bin/sh", false, formBare},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.bundle("one", `{}`)
			var stdin []byte
			if c.params {
				stdin = r.params("one")
			} else {
				// Those versions have one fixed socket directory; another containerd address keeps us out of the way.
				r.sockets = defaultSocketDir
			}
			args := arguments("one", "start")
			args[3] = filepath.Join(r.dir, "containerd.sock")
			argv := append([]string{c.caller, r.launcher}, args...)
			if c.caller == "/bin/sh" {
				argv = append([]string{"/bin/sh", "-c", `"$@"; exit $?`, "sh", r.launcher}, args...)
			}
			got := r.exec("one", stdin, argv...)
			address := r.file("one", "address")
			t.Cleanup(func() { os.Remove(strings.TrimPrefix(address, "unix://")) })
			r.servers(1)
			if want := string(c.form.answer(address)); got.stdout != want || got.stderr != "" || got.code != 0 {
				t.Errorf("got %+v\nwant %q", got, want)
			}
		})
	}
}

func TestContainerdInsideAnotherProgram(t *testing.T) {
	// As k3s has it: the program is another module, containerd one of those it is built from.
	dir := testenv.ShortDir(t)
	for name, content := range map[string]string{"go.mod": "module github.com/containerd/containerd/v2\n\ngo 1.24\n", "d.go": "package d\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exe := caller(t, "example.org/k3s", "")
	if got := legacyForm(exe); got != formBare {
		t.Errorf("a stranger: %v, want the plain address", got)
	}
	exe = callerUsing(t, dir)
	if got := legacyForm(exe); got != formJSON {
		t.Errorf("a program with containerd 2 inside: %v, want JSON", got)
	}
	for _, path := range []string{"/bin/true", "/dev/null", "/nonexistent", "/etc/passwd"} {
		if got := legacyForm(path); got != formBare {
			t.Errorf("%s: %v, want the plain address", path, got)
		}
	}
}

// callerUsing builds a program that imports containerd v2, found in dir.
func callerUsing(t *testing.T, dir string) string {
	t.Helper()
	top := testenv.ShortDir(t)
	for name, content := range map[string]string{
		"go.mod": "module example.org/k3s\n\ngo 1.24\n\nrequire github.com/containerd/containerd/v2 v2.1.0\n\n" +
			"replace github.com/containerd/containerd/v2 => " + dir + "\n",
		"main.go": "package main\n\nimport _ \"github.com/containerd/containerd/v2\"\n\nfunc main() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(top, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exe := filepath.Join(top, "k3s")
	if err := gobuild(top, exe, "."); err != nil {
		t.Fatal(err)
	}
	return exe
}
