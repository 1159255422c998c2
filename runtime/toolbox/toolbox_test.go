package toolbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a command line in dir and returns its exit code, stdout and stderr.
func run(dir, stdin string, args ...string) (int, string, string) {
	var out, errs strings.Builder
	code := Run(args, []string{"A=1", "B=two words"}, dir, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"f": "one\ntwo\nthree\n", ".hidden": "", "sub/g": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		stdin string
		args  []string
		code  int
		out   string
	}{
		{"", []string{"true"}, 0, ""},
		{"", []string{"/bin/false"}, 1, ""},
		{"", []string{"echo", "a", "b"}, 0, "a b\n"},
		{"", []string{"echo", "-n", "a"}, 0, "a"},
		{"", []string{"printf", `a\tb\n`}, 0, "a\tb\n"},
		{"", []string{"env"}, 0, "A=1\nB=two words\n"},
		{"", []string{"pwd"}, 0, dir + "\n"},
		{"", []string{"ls"}, 0, "f\nsub\n"},
		{"", []string{"ls", "-a", dir}, 0, ".hidden\nf\nsub\n"},
		{"", []string{"ls", "f", "nothere"}, 1, "f\n"},
		{"", []string{"cat", "f", "sub/g"}, 0, "one\ntwo\nthree\nx"},
		{"in", []string{"cat"}, 0, "in"},
		{"in", []string{"cat", "nothere", "-"}, 1, "in"},
		{"", []string{"head", "-n", "2", "f"}, 0, "one\ntwo\n"},
		{"a\nb", []string{"head", "-n", "1"}, 0, "a\n"},
		{"", []string{"head", "-n", "x"}, 1, ""},
		{"", []string{"sleep", "0.001"}, 0, ""},
		{"", []string{"sleep", "long"}, 1, ""},
		{"", []string{"sh"}, 127, ""},
		{"", nil, 127, ""},
	} {
		code, out, errs := run(dir, c.stdin, c.args...)
		if code != c.code || out != c.out || (code != 0) != (errs != "") && len(c.args) > 0 && c.args[0] != "/bin/false" {
			t.Errorf("%q: got %d, %q, errors %q; want %d, %q", c.args, code, out, errs, c.code, c.out)
		}
	}
}

func TestLongListingShowsSizeAndMode(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls", "-l"}, {"stat", "f"}} {
		if code, out, _ := run(dir, "", args...); code != 0 || !strings.HasPrefix(out, "-rw-r-----") || !strings.Contains(out, " 5 ") {
			t.Errorf("%q: got %d, %q", args, code, out)
		}
	}
}

func TestWordsAreTheCommands(t *testing.T) {
	for _, w := range Words() {
		if !Has(w) || !Has("/usr/bin/"+w) {
			t.Errorf("Has(%q) is false", w)
		}
	}
	if Has("sh") || Has("") {
		t.Error("the toolbox claims to have a shell")
	}
}
