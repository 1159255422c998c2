package wasi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tetratelabs/wazero"
)

// BenchmarkCall is what one host call costs from the guest's side of the stack, Go's entry included.
func BenchmarkCall(b *testing.B) {
	root := b.TempDir()
	deep := filepath.Join(root, "a/b/c/d")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(deep+"/e", nil, 0o644); err != nil {
		b.Fatal(err)
	}
	dir, err := os.Open(root)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	s, err := New(Options{Preopens: []Preopen{{Guest: "/", Dir: dir}}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	guest, err := rt.CompileModule(ctx, rawModule(ModuleName, nil))
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Instantiate(ctx, rt, guest); err != nil {
		b.Fatal(err)
	}
	mod, err := rt.InstantiateModule(ctx, guest, wazero.NewModuleConfig())
	if err != nil {
		b.Fatal(err)
	}
	mod.Memory().Write(atPath, []byte("a/b/c/d/e"))
	mod.Memory().Write(atSubs, clockSubscription(1, clockMonotonic, 0, 0))
	for _, c := range []struct {
		name string
		args []uint64
	}{
		{"clock_time_get", []uint64{1, 0, atResult}},
		{"random_get", []uint64{atData, 8}},
		{"path_filestat_get", []uint64{3, 1, atPath, 9, atData}},
		{"path_open", []uint64{3, 1, atPath, 9, 0, uint64(rightFdRead), 0, 0, atResult}},
		{"poll_oneoff", []uint64{atSubs, atEvents, 1, atResult}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f, closing := mod.ExportedFunction(c.name), mod.ExportedFunction("fd_close")
			stack := make([]uint64, len(c.args))
			b.ReportAllocs()
			for b.Loop() {
				copy(stack, c.args)
				if err := f.CallWithStack(ctx, stack); err != nil || stack[0] != 0 {
					b.Fatal(err, stack[0])
				}
				if c.name == "path_open" {
					stack[0] = 4
					if err := closing.CallWithStack(ctx, stack); err != nil || stack[0] != 0 {
						b.Fatal(err, stack[0])
					}
				}
			}
		})
	}
}

// BenchmarkGoServer is how many requests a Go net/http guest answers, over kept-alive connections.
func BenchmarkGoServer(b *testing.B) {
	for _, n := range []int{1, 50, 500} {
		b.Run(fmt.Sprint(n, " connections"), func(b *testing.B) {
			listener, addr := listen(b)
			out := collect(b)
			start(b, buildGo(b, "httpd"), Options{Args: []string{"httpd"}, Stdout: out.w, Stderr: out.w, Listeners: []*os.File{listener}})
			out.waitFor(b, "serving")
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
			defer client.CloseIdleConnections()
			var failed atomic.Int64
			b.SetParallelism(max(n/2, 1))
			if n == 1 {
				b.SetParallelism(1)
			}
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, err := client.Post("http://"+addr+"/echo", "text/plain", strings.NewReader("hello"))
					if err != nil {
						failed.Add(1)
						continue
					}
					_, _ = io.Copy(io.Discard, r.Body)
					_ = r.Body.Close()
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			if failed.Load() > 0 {
				b.Errorf("%d requests failed", failed.Load())
			}
		})
	}
}

// BenchmarkStart is what the world of a C guest costs before it runs: the system and its host module.
func BenchmarkStart(b *testing.B) {
	ctx := context.Background()
	module := buildC(b, "server.c")
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(compiled))
	defer rt.Close(ctx)
	guest, err := rt.CompileModule(ctx, module)
	if err != nil {
		b.Fatal(err)
	}
	root, err := os.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	b.ReportAllocs()
	for b.Loop() {
		s, err := New(Options{Args: []string{"a"}, Preopens: []Preopen{{Guest: "/", Dir: root}}})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Instantiate(ctx, rt, guest); err != nil {
			b.Fatal(err)
		}
		_ = rt.Module(ModuleName).Close(ctx)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
