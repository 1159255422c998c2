package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/wire"
)

// BenchmarkColdStart is an engine's share of a container's start: process, jail, load, first byte. It reports medians in
// microseconds, and the processor time that the engine has used by its first byte, which a busy machine disturbs less.
func BenchmarkColdStart(b *testing.B) {
	for name, path := range benchGuests(b) {
		b.Run(name, func(b *testing.B) {
			starter, stop := spawner(b)
			defer stop()
			o := benchOptions(b, path)
			o.Starter = starter
			times := map[string][]time.Duration{}
			for b.Loop() {
				in, w := pipe(b)
				out, theirs := pipe(b)
				o.Stdin, o.Stdout = in, theirs
				began := time.Now()
				note := func(unit string) { times[unit] = append(times[unit], time.Since(began)) }
				p, err := Start(o.Options)
				if err != nil {
					b.Fatal(err)
				}
				note("us-started")
				in.Close()
				theirs.Close()
				if err := p.Load(context.Background(), o.Guest); err != nil {
					b.Fatal(err)
				}
				note("us-ready")
				if err := p.Run(); err != nil {
					b.Fatal(err)
				}
				if _, err := out.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				note("us-first-byte")
				times["us-cpu"] = append(times["us-cpu"], p.cpuTime())
				p.Kill()
				<-p.Done()
				out.Close()
				w.Close()
			}
			for unit, d := range times {
				slices.Sort(d)
				b.ReportMetric(float64(d[len(d)/2].Microseconds()), unit)
			}
		})
	}
}

// BenchmarkIdle reports what an engine with an idle guest holds for itself alone.
func BenchmarkIdle(b *testing.B) {
	for name, path := range benchGuests(b) {
		b.Run(name, func(b *testing.B) {
			o := benchOptions(b, path)
			for b.Loop() {
				in, w := pipe(b)
				out, theirs := pipe(b)
				o.Stdin, o.Stdout = in, theirs
				p, err := Start(o.Options)
				if err != nil {
					b.Fatal(err)
				}
				in.Close()
				theirs.Close()
				if err := p.Load(context.Background(), o.Guest); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(anonymous(b, p.Pid())), "KiB-loaded")
				if err := p.Run(); err != nil {
					b.Fatal(err)
				}
				if _, err := out.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(anonymous(b, p.Pid())), "KiB-first-byte")
				time.Sleep(3 * time.Second)
				b.ReportMetric(float64(anonymous(b, p.Pid())), "KiB-idle")
				threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Pid()))
				b.ReportMetric(float64(len(threads)), "threads")
				p.Kill()
				<-p.Done()
				out.Close()
				w.Close()
			}
		})
	}
}

// spawner starts processes as the shim does: from a thread that has given up the capability bounding set.
func spawner(b *testing.B) (starter Starter, stop func()) {
	jobs := make(chan func())
	var ended sync.WaitGroup
	ended.Go(func() {
		runtime.LockOSThread()
		err := jail.StripThread()
		for j := range jobs {
			j()
		}
		if err != nil {
			b.Error(err)
		}
	})
	starter = func(cmd *exec.Cmd) (wait func() int, err error) {
		done := make(chan struct{})
		jobs <- func() {
			wait, err = plain(cmd)
			close(done)
		}
		<-done
		return wait, err
	}
	return starter, func() {
		close(jobs)
		ended.Wait()
	}
}

func benchGuests(b *testing.B) map[string]string {
	guests := map[string]string{"Go": guest.Built(b, guest.WASI, "runtime/engine/testdata/kit")}
	if guest.HaveC(guest.WASI) {
		guests["C"] = guest.Built(b, guest.WASI, "runtime/engine/testdata/idle.c")
	}
	return guests
}

func benchOptions(b *testing.B, path string) setup {
	o := setup{Options{Binary: benchBinary(b)}, Guest{Name: "bench", Config: wire.Config{Args: []string{"x", "ready"}}}}
	o.Module, o.Artifact = open(b, path)
	return o
}

// anonymous is the process's own memory in KiB: what no file backs and no other process shares.
func anonymous(b *testing.B, pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); f[0] == "Anonymous:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("no Anonymous in smaps_rollup")
	return 0
}

func benchBinary(b *testing.B) string {
	if bin := os.Getenv("HACHI_BENCH_ENGINE"); bin != "" {
		return bin
	}
	return engineBinary(b)
}
