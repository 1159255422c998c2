package toolbox

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The command lines are those of kubectl cp.
func TestTarThereAndBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(from, "d/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789", 10000)
	for name, text := range map[string]string{"d/a": "one", "d/e/b": big} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(from, "d/link")); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run("", "", "tar", "cf", "-", filepath.Join(from, "d"))
	if code != 0 || errs != "" {
		t.Fatalf("tar cf: %d, %s", code, errs)
	}
	h, err := tar.NewReader(strings.NewReader(out)).Next()
	if want := strings.TrimLeft(filepath.Join(from, "d"), "/") + "/"; err != nil || h.Name != want {
		t.Fatalf("the first name is %+v, %v; want %q without the root's slash", h, err, want)
	}
	if code, _, errs := run("/", out, "tar", "--no-same-permissions", "--no-same-owner", "-xmf", "-", "-C", to); code != 0 {
		t.Fatalf("tar xf: %d, %s", code, errs)
	}
	back := filepath.Join(to, from, "d")
	for name, want := range map[string]string{"a": "one", "link": "one", "e/b": big} {
		if got, err := os.ReadFile(filepath.Join(back, name)); err != nil || string(got) != want {
			t.Errorf("%s came back as %.20q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(back, "a")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode of a: %v, %v", info.Mode(), err)
	}
}

func TestTarRefuses(t *testing.T) {
	for _, args := range []string{"tar", "tar cf", "tar cf -", "tar cf /x y", "tar czf - y", "tar xf - -C", "tar cf - /no/such/file"} {
		if code, _, errs := run("/", "", strings.Fields(args)...); code != 1 || !strings.HasPrefix(errs, "tar: ") {
			t.Errorf("%s: %d, %q; want 1 and a reason", args, code, errs)
		}
	}
	if code, _, errs := run(t.TempDir(), "no archive at all", "tar", "xf", "-"); code != 1 || errs == "" {
		t.Errorf("tar xf of something else: %d, %q", code, errs)
	}
}

func TestTest(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{
		"test -d .": 0, "test -d f": 1, "test -f f": 0, "test -f .": 1, "test -e f": 0, "test -e g": 1, "test -s f": 1, "test -z f": 2, "test": 2,
	} {
		if code, _, _ := run(dir, "", strings.Fields(args)...); code != want {
			t.Errorf("%s: %d, want %d", args, code, want)
		}
	}
}
