package operator

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

// busy computes in two functions, three quarters of the time in one of them; with an argument for ever.
const busy = `
#include <stdio.h>
volatile unsigned sink;
__attribute__((noinline)) void burn_much(int n) { for (int i = 0; i < 3 * n; i++) sink += i; }
__attribute__((noinline)) void burn_less(int n) { for (int i = 0; i < n; i++) sink += i; }
__attribute__((noinline)) void work(int n) { burn_much(n); burn_less(n); }
int main(int argc, char **argv) { do for (int i = 0; i < 20; i++) work(10000000); while (argc > 1); puts("done"); return 3; }
`

// TestProfile profiles a guest that ends, and one that is ended.
func TestProfile(t *testing.T) {
	if !guest.HaveC(guest.WASI) {
		t.Skip("needs a C compiler for the guest: run make deps")
	}
	dir := t.TempDir()
	source, module := filepath.Join(dir, "busy.c"), filepath.Join(dir, "busy.wasm")
	if err := os.WriteFile(source, []byte(busy), 0o600); err != nil {
		t.Fatal(err)
	}
	// guest.C strips the names.
	if out, err := exec.Command("clang", "--target=wasm32-wasi", "-O1", "-o", module, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hachi := filepath.Join(testenv.Bin(t), "hachi")
	for name, tc := range map[string]struct {
		flags, args []string
		code        int
	}{
		"ends":     {nil, nil, 3},
		"is ended": {[]string{"--timeout", "3s"}, []string{"for ever"}, 124},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cpu.pprof")
			args := append(append(append([]string{"run", "--profile", file}, tc.flags...), module), tc.args...)
			cmd := exec.Command(hachi, args...)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != tc.code {
				t.Fatalf("%v, want exit code %d\n%s", err, tc.code, &out)
			}
			text, err := exec.Command("go", "tool", "pprof", "-top", "-sample_index=samples", file).CombinedOutput()
			if err != nil {
				t.Fatalf("pprof: %v\n%s", err, text)
			}
			much, less, work := share(t, string(text), "burn_much", 2), share(t, string(text), "burn_less", 2), share(t, string(text), "work", 5)
			if much < 60 || much > 90 || less < 10 || less > 40 || work < 95 {
				t.Errorf("burn_much has %v %%, burn_less %v %%, below work are %v %%; want about 75, 25 and 100\n%s", much, less, work, text)
			}
		})
	}
	cmd := exec.Command(hachi, "run", "--profile", filepath.Join(dir, "none", "cpu.pprof"), module)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no such file") || cmd.ProcessState.ExitCode() != 125 {
		t.Errorf("a profile that cannot be written: %v, %s", err, out)
	}
}

// share is a column of a function's row, in percent: 2 is its own, 5 that of all that it calls.
func share(t *testing.T, top, function string, column int) float64 {
	t.Helper()
	row := regexp.MustCompile(`(?m)^.*\s` + function + `$`).FindString(top)
	fields := strings.Fields(row)
	if len(fields) != 6 {
		t.Errorf("no row for %s in\n%s", function, top)
		return 0
	}
	var v float64
	if _, err := fmt.Sscan(strings.TrimSuffix(fields[column-1], "%"), &v); err != nil {
		t.Errorf("%s: %v", row, err)
	}
	return v
}
