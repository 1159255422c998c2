package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakes makes the programs; each ends when its standard input does.
func fakes(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range Programs {
		raw, err := os.ReadFile("/bin/cat")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(raw, content...), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func builds(t *testing.T, root string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "opt/hachi/versions"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestProgramsUpgrade(t *testing.T) {
	root := t.TempDir()
	p := programs{Host(root), "/opt/hachi"}
	first, fresh, err := p.put(fakes(t, "1"), "v1.0.0 (dirty)")
	if err != nil || !fresh || !strings.HasPrefix(first, "v1.0.0-dirty-") {
		t.Fatalf("got %s, %v, %v", first, fresh, err)
	}
	if now, err := p.current(); now != "" || err != nil {
		t.Errorf("in use before use: %q, %v", now, err)
	}
	if err := p.use(first); err != nil {
		t.Fatal(err)
	}
	// A pod's server that runs through an upgrade.
	cmd := exec.Command(filepath.Join(root, "opt/hachi/bin/hachi-shim"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait()
	}()

	if again, fresh, err := p.put(fakes(t, "1"), "v1.0.0 (dirty)"); again != first || fresh || err != nil {
		t.Errorf("the same build again: got %s, %v, %v", again, fresh, err)
	}
	second, _, err := p.put(fakes(t, "2"), "v1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.use(second); err != nil {
		t.Fatal(err)
	}
	if now, err := p.current(); now != second || err != nil {
		t.Errorf("in use: %q, %v", now, err)
	}
	busy, err := p.dropUnused(second)
	if diff := cmp.Diff([]string{first}, busy); diff != "" || err != nil {
		t.Errorf("busy: %v (-want +got):\n%s", err, diff)
	}
	if _, err := os.Stat(filepath.Join(root, "opt/hachi/versions", first, "hachi-engine")); err != nil {
		t.Errorf("the running server lost its engine: %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if busy, err := p.dropUnused(second); len(busy) > 0 || err != nil {
		t.Errorf("still busy: %v, %v", busy, err)
	}
	if diff := cmp.Diff([]string{second}, builds(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProgramsRepairDamage(t *testing.T) {
	root, from := t.TempDir(), fakes(t, "1")
	p := programs{Host(root), "/opt/hachi"}
	build, _, err := p.put(from, "v1")
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(root, "opt/hachi/versions", build, "hachi-engine")
	if err := os.Truncate(damaged, 10); err != nil {
		t.Fatal(err)
	}
	again, fresh, err := p.put(from, "v1")
	if again != build || !fresh || err != nil {
		t.Errorf("got %s, %v, %v", again, fresh, err)
	}
	if st, err := os.Stat(damaged); err != nil || st.Size() == 10 {
		t.Errorf("not repaired: %v", err)
	}
	if diff := cmp.Diff([]string{build}, builds(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProgramsRefusals(t *testing.T) {
	root := t.TempDir()
	p := programs{Host(root), "/opt/hachi"}
	if _, _, err := p.put(t.TempDir(), "v1"); err == nil || !strings.Contains(err.Error(), "want all of hachi's programs") {
		t.Errorf("no programs: %v", err)
	}
	write(t, root, "opt/hachi/bin/hachi", "by hand")
	if _, err := p.current(); err == nil || !strings.Contains(err.Error(), "/opt/hachi/bin: not a link of hachi node install") {
		t.Errorf("a folder in the way: %v", err)
	}
}
