package wasi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
	"go.uber.org/goleak"

	"github.com/hachi-run/hachi/runtime/wasi"
)

var suite = flag.String("suite", os.Getenv("HACHI_WASI_SUITE"), "directory of wasi-testsuite, branch prod/testsuite-base")

// programs is how many preview1 programs the suite has; fewer means that the directory is not it.
const programs = 72

// limit is the longest any program may take.
const limit = 60 * time.Second

// specification is a program's .json file; doc/specification.md of the suite describes it.
type specification struct {
	Args     []string          `json:"args"`
	Env      map[string]string `json:"env"`
	Root     string            `json:"root"`
	ExitCode uint32            `json:"exit_code"`
	Stdout   *string           `json:"stdout"`
	Stderr   *string           `json:"stderr"`
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	if *suite == "" {
		t.Skip("wasi-testsuite is not part of this repository: name its directory with -suite DIR (branch prod/testsuite-base)")
	}
	files, err := filepath.Glob(filepath.Join(*suite, "tests", "*", "testsuite", "wasm32-wasip1", "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < programs {
		t.Fatalf("%s has %d preview1 programs, want at least %d (is it the branch prod/testsuite-base?)", *suite, len(files), programs)
	}
	cache := wazero.NewCompilationCache()
	t.Cleanup(func() { _ = cache.Close(context.Background()) })
	for _, file := range files {
		name, _ := filepath.Rel(filepath.Join(*suite, "tests"), file)
		t.Run(strings.Replace(name, "/testsuite/wasm32-wasip1", "", 1), func(t *testing.T) {
			runProgram(t, cache, file)
		})
	}
}

func runProgram(t *testing.T, cache wazero.CompilationCache, file string) {
	spec := readSpecification(t, strings.TrimSuffix(file, ".wasm")+".json")
	options := wasi.Options{Args: append([]string{filepath.Base(file)}, spec.Args...)}
	for k, v := range spec.Env {
		options.Env = append(options.Env, k+"="+v)
	}
	if spec.Root != "" {
		// Programs write into their root, and the suite's directory is not ours to change.
		root := t.TempDir()
		if err := os.CopyFS(root, withoutLeftovers{os.DirFS(filepath.Join(filepath.Dir(file), spec.Root))}); err != nil {
			t.Fatal(err)
		}
		dir, err := os.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		options.Preopens = []wasi.Preopen{{Guest: "/", Dir: dir}}
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	options.Stdin = stdin
	var stdout, stderr func() string
	options.Stdout, stdout = capture(t)
	options.Stderr, stderr = capture(t)

	code, err := run(cache, file, options)
	switch out, errOut := stdout(), stderr(); {
	case err != nil:
		t.Errorf("%v\nstderr: %s", err, errOut)
	case code != spec.ExitCode:
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", code, spec.ExitCode, out, errOut)
	case spec.Stdout != nil && out != *spec.Stdout:
		t.Errorf("stdout %q, want %q", out, *spec.Stdout)
	case spec.Stderr != nil && errOut != *spec.Stderr:
		t.Errorf("stderr %q, want %q", errOut, *spec.Stderr)
	}
}

func readSpecification(t *testing.T, file string) (spec specification) {
	t.Helper()
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return spec
	}
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// capture collects what is written into a pipe; the returned function closes it and waits for the end.
func capture(t *testing.T) (*os.File, func() string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = b.ReadFrom(r)
		_ = r.Close()
	}()
	return w, func() string {
		_ = w.Close()
		<-done
		return b.String()
	}
}

func run(cache wazero.CompilationCache, file string, o wasi.Options) (uint32, error) {
	ctx := context.Background()
	module, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(cache))
	defer rt.Close(ctx)
	guest, err := rt.CompileModule(ctx, module)
	if err != nil {
		return 0, err
	}
	system, err := wasi.New(o)
	if err != nil {
		return 0, err
	}
	defer system.Close()
	if err := system.Instantiate(ctx, rt, guest); err != nil {
		return 0, err
	}
	stop := time.AfterFunc(limit, func() { system.Interrupt(124) })
	defer stop.Stop()
	_, err = rt.InstantiateModule(ctx, guest, wazero.NewModuleConfig())
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// withoutLeftovers hides what earlier runs of programs left in the suite's directory, as its own
// runner removes it.
type withoutLeftovers struct{ fs.FS }

func (w withoutLeftovers) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(w.FS, name)
	kept := list[:0]
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), ".cleanup") {
			kept = append(kept, e)
		}
	}
	return kept, err
}
