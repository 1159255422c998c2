package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestByHand: people who start an engine themselves are told what to do instead. What it does for the shim is tested
// in runtime/engine.
func TestByHand(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "hachi-engine")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":          {nil, 64, "use hachi run"},
		"unknown":          {[]string{"run", "x.wasm"}, 64, "use hachi run"},
		"run without shim": {[]string{"run"}, 64, "no configuration on descriptor 3"},
		"compile nothing":  {[]string{"compile"}, 1, "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(bin, tt.args...)
			var said bytes.Buffer
			cmd.Stderr = &said
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tt.code || !strings.Contains(said.String(), tt.want) {
				t.Errorf("%v, said %q; want code %d and %q", err, said.String(), tt.code, tt.want)
			}
		})
	}
}
