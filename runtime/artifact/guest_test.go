package artifact

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// The guests are built once per test run.
var (
	guestDir  string
	guestOnce sync.Map
)

var guestSources = map[string]string{
	// Enough of Go's runtime to prove memory, globals, tables, traps and host calls.
	"hello": `package main
import ("fmt";"os";"sort";"strings";"time")
var table = map[string][]int{}
func main() {
	for i := range 2000 { k := fmt.Sprint("key", i%37); table[k] = append(table[k], i) }
	keys := []string{}
	for k := range table { keys = append(keys, k) }
	sort.Strings(keys)
	time.Sleep(time.Millisecond)
	fmt.Println("hello", strings.Join(os.Args, ","), len(keys), keys[3], table[keys[5]][:4])
	if len(os.Args) > 1 && os.Args[1] == "exit" { os.Exit(3) }
	if len(os.Args) > 1 && os.Args[1] == "spin" { for i := 0; ; i++ { if i == -1 { return } } }
	if len(os.Args) > 1 && os.Args[1] == "panic" { crash(nil) }
}
//go:noinline
func crash(p *int) { *p = 1 }
`,
	// What an ordinary microservice links.
	"http": `package main
import ("fmt";"net/http";"net/http/httptest";"encoding/json")
func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(map[string]string{"path": r.URL.Path}) })
	w := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(w, httptest.NewRequest("GET", "/x", nil))
	fmt.Print(w.Body.String())
}
`,
}

// guest returns the path of a compiled Go program.
func guest(tb testing.TB, name string) string {
	tb.Helper()
	build := func() (string, error) {
		if guestDir == "" {
			var err error
			if guestDir, err = os.MkdirTemp("", "hachi-guests-"); err != nil {
				return "", err
			}
		}
		dir := filepath.Join(guestDir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		for file, text := range map[string]string{"main.go": guestSources[name], "go.mod": "module guest\ngo 1.24\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				return "", err
			}
		}
		cmd := exec.Command("go", "build", "-o", "main.wasm", ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Logf("%s", out)
			return "", err
		}
		return filepath.Join(dir, "main.wasm"), nil
	}
	once, _ := guestOnce.LoadOrStore(name, sync.OnceValues(build))
	path, err := once.(func() (string, error))()
	if err != nil {
		tb.Fatalf("build guest %s: %v", name, err)
	}
	return path
}

// open opens a file for the length of the test.
func open(tb testing.TB, path string) *os.File {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

// compiled returns the artefact of a module.
func compiled(tb testing.TB, module *os.File) *os.File {
	tb.Helper()
	out, err := os.Create(filepath.Join(tb.TempDir(), "artifact"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { out.Close() })
	if err := Compile(context.Background(), module, out); err != nil {
		tb.Fatal(err)
	}
	return out
}

// run loads a guest, runs it to its end and returns its output and exit code.
func run(tb testing.TB, o LoadOptions, args ...string) (string, uint32, error) {
	tb.Helper()
	ctx := context.Background()
	rt, cm, err := Load(ctx, o)
	if err != nil {
		tb.Fatal(err)
	}
	defer rt.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	var out bytes.Buffer
	config := wazero.NewModuleConfig().WithArgs(append([]string{"guest"}, args...)...).
		WithStdout(&out).WithStderr(&out).WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithRandSource(rand.Reader)
	if o.Memory != nil {
		_, err = o.Memory.Instantiate(ctx, rt, cm, config)
	} else {
		_, err = rt.InstantiateModule(ctx, cm, config)
	}
	if exit, ok := err.(*sys.ExitError); ok {
		return out.String(), exit.ExitCode(), nil
	}
	return out.String(), 0, err
}
