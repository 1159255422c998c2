package conf

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

const main = "/etc/containerd/config.toml"

// memory is a file system in a map.
type memory map[string]string

func (m memory) ReadFile(name string) ([]byte, error) {
	text, ok := m[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func (m memory) Glob(pattern string) ([]string, error) {
	var out []string
	for name := range m {
		if ok, err := filepath.Match(pattern, name); err != nil {
			return nil, err
		} else if ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (m memory) apply(changes []Change) memory {
	out := memory{}
	for k, v := range m {
		out[k] = v
	}
	for _, c := range changes {
		if c.Text == nil {
			delete(out, c.Name)
			continue
		}
		out[c.Name] = string(c.Text)
	}
	return out
}

func (m memory) add(t *testing.T, r Runtime, major int) (memory, []Change) {
	t.Helper()
	tree, err := Read(m, main)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := tree.Add(r, major)
	if err != nil {
		t.Fatal(err)
	}
	return m.apply(changes), changes
}

func (m memory) remove(t *testing.T) memory {
	t.Helper()
	tree, err := Read(m, main)
	if err != nil {
		t.Fatal(err)
	}
	return m.apply(tree.Remove())
}

var hachi = Runtime{Handler: "hachi", Path: "/opt/hachi/bin/containerd-shim-hachi-v1"}

// machines are configurations as they are found on nodes, by the file that must change beside the drop-in.
var machines = []struct {
	name  string
	major int
	files memory
	// touched are the files that Add changes or makes.
	touched []string
}{
	{"2, no file", 2, memory{}, []string{main, "/etc/containerd/conf.d/hachi.toml"}},
	{"2, the default import", 2, memory{main: "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n"}, []string{"/etc/containerd/conf.d/hachi.toml"}},
	{"2, relative import", 2, memory{main: "version = 3\nimports = ['conf.d/*.toml']\n"}, []string{"/etc/containerd/conf.d/hachi.toml"}},
	{"2, an import imports it", 2, memory{main: "imports = ['x.toml']\nversion = 3\n", "/etc/containerd/x.toml": "version = 3\nimports = ['/etc/containerd/conf.d/*']\n"}, []string{"/etc/containerd/conf.d/hachi.toml"}},
	{"2, no import", 2, memory{main: "# mine\nversion = 3\n\n[grpc]\n  address = '/run/x.sock'\n"}, []string{main, "/etc/containerd/conf.d/hachi.toml"}},
	{"2, empty imports", 2, memory{main: "version = 3\nimports = []\n[debug]\nimports = 3\n"}, []string{main, "/etc/containerd/conf.d/hachi.toml"}},
	{"2, imports of others", 2, memory{main: "version = 3\nimports = [ # ours\n  '/etc/containerd/a.toml',\n]\n", "/etc/containerd/a.toml": "version = 2\n"}, []string{main, "/etc/containerd/conf.d/hachi.toml"}},
	{"2, file of version 2 without a last line break", 2, memory{main: "version = 2"}, []string{main, "/etc/containerd/conf.d/hachi.toml"}},
	{"1, no file", 1, memory{}, []string{main}},
	{"1, no CRI section", 1, memory{main: "version = 2\n"}, []string{main}},
	{"1, no last line break", 1, memory{main: "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = 'x'"}, []string{main}},
	{"1, systemd", 1, memory{main: "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = 'io.containerd.runc.v2'\n"}, []string{main}},
	{"1, the section is in an import", 1, memory{main: "version = 2\nimports = ['a/*.toml']\n[plugins.\"io.containerd.grpc.v1.cri\"]\n", "/etc/containerd/a/b.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n"}, []string{"/etc/containerd/a/b.toml"}},
}

func TestAddAndRemove(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			after, changes := m.files.add(t, hachi, m.major)
			var touched []string
			for _, c := range changes {
				touched = append(touched, c.Name)
			}
			slices.Sort(touched)
			want := slices.Sorted(slices.Values(m.touched))
			if diff := cmp.Diff(want, touched); diff != "" {
				t.Errorf("files changed (-want +got):\n%s", diff)
			}
			for name, text := range after {
				var any map[string]any
				if err := toml.Unmarshal([]byte(text), &any); err != nil {
					t.Errorf("%s is not TOML any more: %v\n%s", name, err, text)
				}
			}
			tree, err := Read(after, main)
			if err != nil {
				t.Fatal(err)
			}
			plugin, found := plugin3, 0
			if m.major < 2 {
				plugin = plugin2
			}
			for _, f := range tree.files {
				if path, _ := f.at(plugin, "containerd", "runtimes", "hachi", "runtime_path"); path == hachi.Path {
					found++
				}
			}
			if found != 1 {
				t.Errorf("the runtime is loaded %d times", found)
			}
			if _, again := after.add(t, hachi, m.major); len(again) != 0 {
				t.Errorf("a second Add changes %v", again)
			}
			if diff := cmp.Diff(m.files, after.remove(t)); diff != "" {
				t.Errorf("Remove does not give back what was (-want +got):\n%s", diff)
			}
		})
	}
}

// The operator's edits after Add stay, wherever they are.
func TestRemoveKeepsLaterEdits(t *testing.T) {
	for _, m := range machines {
		after, _ := m.files.add(t, hachi, m.major)
		if _, ok := m.files[main]; !ok {
			continue
		}
		after[main] += "# later\n"
		got := after.remove(t)[main]
		if !strings.HasSuffix(got, "# later\n") || strings.Contains(got, "hachi") {
			t.Errorf("%s: got\n%s", m.name, got)
		}
	}
}

// A node whose containerd is upgraded keeps one form, the one of the new version.
func TestAddAfterUpgrade(t *testing.T) {
	before := memory{main: "version = 2\n"}
	one, _ := before.add(t, hachi, 1)
	two, _ := one.add(t, hachi, 2)
	if strings.Contains(two[main], "runtime_path") || two["/etc/containerd/conf.d/hachi.toml"] == "" {
		t.Errorf("got %v", two)
	}
	back, _ := two.add(t, hachi, 1)
	if diff := cmp.Diff(one, back); diff != "" {
		t.Errorf("back to 1 (-want +got):\n%s", diff)
	}
}

func TestAddReplacesOlderSettings(t *testing.T) {
	after, _ := memory{}.add(t, hachi, 2)
	r := hachi
	r.Sandboxer, r.SystemdCgroup, r.RuncBinary = "shim", true, "/usr/local/bin/runc"
	after, changes := after.add(t, r, 2)
	if len(changes) != 1 || changes[0].Name != DropIn(main) {
		t.Errorf("changed %v", changes)
	}
	var got struct {
		Plugins map[string]struct {
			Containerd struct{ Runtimes map[string]map[string]any }
		}
	}
	if err := toml.Unmarshal([]byte(after[DropIn(main)]), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"runtime_type": "io.containerd.hachi.v1", "runtime_path": hachi.Path, "sandboxer": "shim", "disable_pause_image_pull": true,
		"pod_annotations": []any{"hachi.run/*"}, "container_annotations": []any{"hachi.run/*"},
		"options": map[string]any{"SystemdCgroup": true, "BinaryName": "/usr/local/bin/runc"},
	}
	if diff := cmp.Diff(want, got.Plugins[plugin3].Containerd.Runtimes["hachi"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	cri := "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.hachi]\nruntime_type = 'x'\n"
	for _, c := range []struct {
		name    string
		files   memory
		major   int
		runtime Runtime
		says    string
	}{
		{"defined by hand", memory{main: cri}, 1, hachi, "/etc/containerd/config.toml defines it, and not by hachi node install"},
		{"defined by hand, read by 2", memory{main: cri}, 2, hachi, "defines it"},
		{"foreign drop-in", memory{main: "imports = ['conf.d/*.toml']\n", DropIn(main): "version = 3\n"}, 2, hachi, "conf.d/hachi.toml exists, and not by hachi"},
		{"not TOML", memory{main: "version = 2\n[plugins\n"}, 2, hachi, "config.toml: line 2, column"},
		{"missing import", memory{main: "imports = ['gone.toml']\n"}, 2, hachi, "gone.toml: file does not exist (another file imports it"},
		{"imports is no array", memory{main: "version = 3\nimports = 'x'\n"}, 2, hachi, "imports"},
		{"version 1", memory{main: "[plugins.cri]\n"}, 1, hachi, "has version 0"},
		{"inline table", memory{main: "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nruntimes = {}\n"}, 1, hachi, "inline table"},
		{"sandboxer", memory{}, 1, Runtime{Handler: "hachi", Path: "/x", Sandboxer: "shim"}, "needs containerd 2"},
		{"unknown sandboxer", memory{}, 2, Runtime{Handler: "hachi", Path: "/x", Sandboxer: "pod"}, "want podsandbox or shim"},
		{"handler", memory{}, 2, Runtime{Handler: "a.b", Path: "/x"}, "not a name"},
		{"runc", memory{}, 2, Runtime{Handler: "runc", Path: "/x"}, "taken"},
		{"relative", memory{}, 2, Runtime{Handler: "hachi", Path: "x"}, "not absolute"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree, err := Read(c.files, main)
			if err == nil {
				_, err = tree.Add(c.runtime, c.major)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v; want it to say %q", err, c.says)
			}
		})
	}
}

func FuzzAddImport(f *testing.F) {
	for _, m := range machines {
		f.Add(m.files[main])
	}
	f.Add("imports=[[],[]]\nimports.x = 1")
	f.Add("\"imports\" = [\"a\"]")
	f.Fuzz(func(t *testing.T, text string) {
		if string(strip([]byte(text))) != text {
			return
		}
		tree, err := Read(memory{main: text}, main)
		if err != nil {
			return
		}
		changes, err := tree.Add(hachi, 2)
		if err != nil {
			return
		}
		after := memory{main: text}.apply(changes)
		if got := after.remove(t)[main]; got != text && strings.TrimSpace(text) != "" {
			t.Errorf("%q became %q", text, got)
		}
	})
}
