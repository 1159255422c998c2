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

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/runtime/wasi"
)

var suite = flag.String("suite", os.Getenv("HACHI_WASI_SUITE"), "directory of wasi-testsuite, branch prod/testsuite-base")

// programs is how many preview1 programs the suite has; fewer means that the directory is not it.
const programs = 72

// limit is the longest any program may take.
const limit = 60 * time.Second

// specification is a program's .json file; doc/specification.md of the suite describes it.
type specification struct {
	Args []string          `json:"args"`
	Env  map[string]string `json:"env"`
	// Root is the directory that is "/", or else Dirs are those that have their own names.
	Root     string   `json:"root"`
	Dirs     []string `json:"dirs"`
	ExitCode uint32   `json:"exit_code"`
	Stdout   *string  `json:"stdout"`
	Stderr   *string  `json:"stderr"`
}

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// program is one program of the suite and what it is to be given.
type program struct {
	specification
	file string
	// dirs are copies of its directories, by the guest's names.
	dirs map[string]string
}

// outcome is how a program ended.
type outcome struct {
	code           uint32
	stdout, stderr string
}

// TestSuite runs every program in this process, on runtime/wasi alone.
func TestSuite(t *testing.T) {
	all := files(t)
	cache := wazero.NewCompilationCache()
	t.Cleanup(func() { _ = cache.Close(context.Background()) })
	forEach(t, all, nil, func(t *testing.T, p program) (outcome, error) { return direct(t, cache, p) })
}

// files are the suite's programs.
func files(t *testing.T) []string {
	t.Helper()
	if *suite == "" {
		t.Skip("wasi-testsuite is not part of this repository: name its directory with -suite DIR (branch prod/testsuite-base)")
	}
	list, err := filepath.Glob(filepath.Join(*suite, "tests", "*", "testsuite", "wasm32-wasip1", "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < programs {
		t.Fatalf("%s has %d preview1 programs, want at least %d (is it the branch prod/testsuite-base?)", *suite, len(list), programs)
	}
	return list
}

// forEach runs programs by one driver. known says by their file's name why some must fail with it.
func forEach(t *testing.T, files []string, known map[string]string, drive func(*testing.T, program) (outcome, error)) {
	for _, file := range files {
		name, _ := filepath.Rel(filepath.Join(*suite, "tests"), file)
		t.Run(strings.Replace(name, "/testsuite/wasm32-wasip1", "", 1), func(t *testing.T) {
			p := prepare(t, file)
			o, err := drive(t, p)
			switch why := known[filepath.Base(file)]; {
			case why == "":
				p.judge(t, o, err)
			case err != nil || o.code == p.ExitCode:
				t.Errorf("exit code %d, %v, but it is listed as known to fail: %s", o.code, err, why)
			default:
				t.Logf("exit code %d, as known: %s", o.code, why)
			}
		})
	}
}

func prepare(t *testing.T, file string) program {
	p := program{specification: readSpecification(t, strings.TrimSuffix(file, ".wasm")+".json"), file: file, dirs: map[string]string{}}
	names := map[string]string{}
	if p.Root != "" {
		names["/"] = p.Root
	}
	for _, dir := range p.Dirs {
		names[dir] = dir
	}
	for guest, dir := range names {
		// Programs write into their directories, and the suite's are not ours to change.
		p.dirs[guest] = t.TempDir()
		if err := os.CopyFS(p.dirs[guest], withoutLeftovers{os.DirFS(filepath.Join(filepath.Dir(file), dir))}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p program) environ() (env []string) {
	for k, v := range p.Env {
		env = append(env, k+"="+v)
	}
	return env
}

func (p program) judge(t *testing.T, o outcome, err error) {
	switch {
	case err != nil:
		t.Errorf("%v\nstderr: %s", err, o.stderr)
	case o.code != p.ExitCode:
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", o.code, p.ExitCode, o.stdout, o.stderr)
	case p.Stdout != nil && o.stdout != *p.Stdout:
		t.Errorf("stdout %q, want %q", o.stdout, *p.Stdout)
	case p.Stderr != nil && o.stderr != *p.Stderr:
		t.Errorf("stderr %q, want %q", o.stderr, *p.Stderr)
	}
}

func direct(t *testing.T, cache wazero.CompilationCache, p program) (o outcome, err error) {
	options := wasi.Options{Args: append([]string{filepath.Base(p.file)}, p.Args...), Env: p.environ()}
	for guest, host := range p.dirs {
		dir, err := os.Open(host)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		options.Preopens = append(options.Preopens, wasi.Preopen{Guest: guest, Dir: dir})
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
	o.code, err = run(cache, p.file, options)
	o.stdout, o.stderr = stdout(), stderr()
	return o, err
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
