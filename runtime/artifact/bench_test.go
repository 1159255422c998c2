package artifact

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/hachi-run/hachi/runtime/memory"
)

// fileCached loads a module the way wazero itself offers.
func fileCached(tb testing.TB, dir string, wasm []byte) wazero.Runtime {
	ctx := context.Background()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(Features).WithCompilationCache(cache))
	if _, err := rt.CompileModule(experimental.WithCompilationWorkers(ctx, workers), wasm); err != nil {
		tb.Fatal(err)
	}
	return rt
}

// BenchmarkLoad compares an artefact with wazero's file cache. The bar for http is 0.10.
func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"hello", "http"} {
		path := guest(b, name)
		wasm, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		dir := b.TempDir()
		fileCached(b, dir, wasm).Close(context.Background())
		var theirs, ours float64
		b.Run(name+"/filecache", func(b *testing.B) {
			for b.Loop() {
				wasm, err := os.ReadFile(path)
				if err != nil {
					b.Fatal(err)
				}
				fileCached(b, dir, wasm).Close(context.Background())
			}
			theirs = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
		})
		module := open(b, path)
		art := compiled(b, module)
		b.Run(name+"/artifact", func(b *testing.B) {
			for b.Loop() {
				rt, _, err := Load(context.Background(), LoadOptions{Module: module, Artifact: art, Memory: memory.New(0), Log: noWarnings(b)})
				if err != nil {
					b.Fatal(err)
				}
				rt.Close(context.Background())
			}
			ours = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(ours/theirs, "of-filecache")
			st, _ := art.Stat()
			b.ReportMetric(float64(st.Size())/1e6, "artefact-MB")
		})
	}
}

// BenchmarkPrivateMemory prints what a process holds after loading, each in a child of its own.
func BenchmarkPrivateMemory(b *testing.B) {
	for _, name := range []string{"hello", "http"} {
		path := guest(b, name)
		dir := b.TempDir()
		wasm, _ := os.ReadFile(path)
		fileCached(b, dir, wasm).Close(context.Background())
		art := compiled(b, open(b, path))
		for _, mode := range []string{"filecache", "artifact"} {
			b.Run(name+"/"+mode, func(b *testing.B) {
				for b.Loop() {
					cmd := exec.Command("/proc/self/exe")
					cmd.Env = append(os.Environ(), "HACHI_TEST_LOAD="+strings.Join([]string{mode, path, dir, art.Name()}, ","))
					out, err := cmd.Output()
					var loaded, instance int
					if _, serr := fmt.Sscan(string(out), &loaded, &instance); err != nil || serr != nil {
						b.Fatalf("%v %v %s", err, serr, out)
					}
					b.ReportMetric(float64(loaded), "loaded-KB")
					b.ReportMetric(float64(instance), "instance-KB")
				}
			})
		}
	}
}

// BenchmarkCompile prints what the compile worker needs, in a process of its own.
func BenchmarkCompile(b *testing.B) {
	for _, name := range []string{"hello", "http"} {
		path := guest(b, name)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), "HACHI_TEST_LOAD=compile,"+path+",,"+filepath.Join(b.TempDir(), "out"))
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v %s", err, out)
				}
				b.ReportMetric(float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024, "max-RSS-MB")
				b.ReportMetric(cmd.ProcessState.UserTime().Seconds(), "CPU-s")
			}
		})
	}
}

func compileInChild(module, artifact string) int {
	in, err := os.Open(module)
	if err == nil {
		var out *os.File
		if out, err = os.Create(artifact); err == nil {
			err = Compile(context.Background(), in, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// loadInChild prints by how many KiB private memory grew by loading, and by instantiating after that.
func loadInChild(spec string) int {
	s := strings.Split(spec, ",")
	if s[0] == "compile" {
		return compileInChild(s[1], s[3])
	}
	ctx := context.Background()
	alloc := memory.New(0)
	base := wazero.NewRuntime(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, base)
	before := privateKB()
	var rt wazero.Runtime
	var cm wazero.CompiledModule
	var err error
	if s[0] == "filecache" {
		cache, cerr := wazero.NewCompilationCacheWithDir(s[2])
		if cerr != nil {
			return 1
		}
		rt = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(Features).WithCompilationCache(cache))
		wasm, _ := os.ReadFile(s[1])
		cm, err = rt.CompileModule(ctx, wasm)
	} else {
		module, _ := os.Open(s[1])
		art, _ := os.Open(s[3])
		rt, cm, err = Load(ctx, LoadOptions{Module: module, Artifact: art, Memory: alloc})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	loaded := privateKB()
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	config := wazero.NewModuleConfig().WithStartFunctions().WithStdout(io.Discard)
	var mod api.Module
	if s[0] == "filecache" {
		mod, err = rt.InstantiateModule(ctx, cm, config)
	} else {
		mod, err = alloc.Instantiate(ctx, rt, cm, config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(loaded-before, privateKB()-loaded)
	runtime.KeepAlive([]any{base, rt, cm, mod})
	return 0
}

func privateKB() int {
	runtime.GC()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "Private_Dirty: %d kB", &kb); n == 1 {
			return kb
		}
	}
	return -1
}
