package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write makes a file of a host.
func write(t *testing.T, root, name, text string) {
	t.Helper()
	at := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, root, name, target string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
		t.Fatal(err)
	}
}

func TestHostFollowsItsOwnLinks(t *testing.T) {
	root := t.TempDir()
	write(t, root, "var/lib/conf/config.toml", "here")
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, root, "etc/containerd", "/var/lib/conf")
	link(t, root, "up", "../../../../../etc/containerd")
	link(t, root, "loop", "loop")
	h := Host(root)
	for name, want := range map[string]string{
		"/etc/containerd/config.toml":        "var/lib/conf/config.toml",
		"/up/config.toml":                    "var/lib/conf/config.toml",
		"/etc/containerd/../new/x":           "var/lib/new/x",
		"/etc/containerd/conf.d/absent.toml": "var/lib/conf/conf.d/absent.toml",
		"/../../x":                           "x",
	} {
		got, err := h.At(name)
		if err != nil || got != filepath.Join(root, want) {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"/loop/x", "relative"} {
		if got, err := h.At(name); err == nil {
			t.Errorf("%s: got %s", name, got)
		}
	}
	if err := h.WriteFile("/up/config.toml", []byte("new")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "var/lib/conf/config.toml"))
	if err != nil || string(raw) != "new" {
		t.Errorf("got %q, %v", raw, err)
	}
	st, err := os.Stat(filepath.Join(root, "var/lib/conf/config.toml"))
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("the mode changed to %v, %v", st.Mode(), err)
	}
	if target, err := os.Readlink(filepath.Join(root, "up")); err != nil || !strings.HasPrefix(target, "..") {
		t.Errorf("the link became %q, %v", target, err)
	}
	found, err := h.Glob("/etc/containerd/*.toml")
	if diff := cmp.Diff([]string{"/etc/containerd/config.toml"}, found); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}
