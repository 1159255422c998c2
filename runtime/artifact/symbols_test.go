package artifact

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

const crashing = `__attribute__((noinline)) int divide(int a, int b) {
  return a / b; // line 2
}
static int table[4];
__attribute__((noinline)) int middle(int a) {
  int sum = 0;
  for (int i = 3; i >= 0; i--)
    sum += divide(a, i) + table[i]; // line 8
  return sum;
}
__attribute__((export_name("top"))) int top(int a) {
  return middle(a) + 1; // line 12
}
`

func TestTracesHaveNamesAndLines(t *testing.T) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("needs clang and lld: apt-get install clang lld")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "crash.c"), []byte(crashing), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags []string
		want  []string
		not   string
	}{
		{"DWARF 4", []string{"-gdwarf-4"}, []string{"divide(i32,i32) i32\n\t\tcrash.c:2\n", "middle(i32) i32\n\t\tcrash.c:8\n", "top(i32) i32\n\t\tcrash.c:12"}, "$"},
		{"DWARF 5", []string{"-gdwarf-5"}, []string{"divide(i32,i32) i32\n\t\tcrash.c:2\n", "middle(i32) i32\n\t\tcrash.c:8\n", "top(i32) i32\n\t\tcrash.c:12"}, "$"},
		{"names only", nil, []string{"divide(i32,i32) i32\n\tmiddle(i32) i32\n\ttop(i32) i32"}, "crash.c"},
		{"stripped", []string{"-Wl,--strip-all"}, []string{"\t.$1(i32,i32) i32\n\t.$2(i32) i32\n\ttop(i32) i32"}, "crash.c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(dir, "crash.wasm")
			cmd := exec.Command(clang, append([]string{"--target=wasm32", "-O1", "-nostdlib", "-Wl,--no-entry", "-fdebug-prefix-map=" + dir + "=.", "-o", out, "crash.c"}, c.flags...)...)
			cmd.Dir = dir
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			module := open(t, out)
			art := compiled(t, module)
			ctx := context.Background()
			rt, cm, err := Load(ctx, LoadOptions{Module: module, Artifact: art, Log: noWarnings(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer rt.Close(ctx)
			m, err := rt.InstantiateModule(ctx, cm, wazero.NewModuleConfig())
			if err != nil {
				t.Fatal(err)
			}
			_, trap := m.ExportedFunction("top").Call(ctx, 5)
			if trap == nil {
				t.Fatal("no trap")
			}
			table, err := Symbols(module, art)
			if err != nil {
				t.Fatal(err)
			}
			got := table.Resolve(trap.Error())
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("trace lacks %q:\n%s\nunresolved:\n%s", w, got, trap)
				}
			}
			if c.name != "stripped" && strings.Contains(got, c.not) {
				t.Errorf("trace has %q:\n%s", c.not, got)
			}
			// Without an artefact there are names at least.
			plain, err := Symbols(module, nil)
			if err != nil || (c.name != "stripped" && !strings.Contains(plain.Resolve(trap.Error()), "\tmiddle(i32) i32")) {
				t.Errorf("from the module: %v", err)
			}
		})
	}
}
