package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hachi-run/hachi/internal/testenv/daemon"
)

const (
	image = "hachi.test/hello-http:demo"
	id    = "hello"
	port  = "8080"
)

// show runs commands as an operator types them, and prints them.
type show struct {
	d                   *daemon.Daemon
	namespace, bin, dir string
	imported, started   bool
}

func (s *show) service(ctx context.Context) error {
	archive := filepath.Join(s.dir, "hello-http.tar")
	if err := s.hachi(ctx, "build", filepath.Join(s.bin, "samples", "hello-http.wasm"), "-t", image, "--port", port, "-o", archive); err != nil {
		return err
	}
	if _, err := s.ctr(ctx, "image", "import", "--all-platforms", archive); err != nil {
		return err
	}
	s.imported = true
	if _, err := s.ctr(ctx, "run", "-d", "--net-host", "--runtime", "io.containerd.hachi.v1", image, id); err != nil {
		return err
	}
	s.started = true
	paths := []string{"/?name=bee", "/healthz"}
	for _, path := range paths {
		if err := s.get(ctx, path); err != nil {
			return err
		}
	}
	out, err := s.ctr(ctx, "task", "ls")
	if err != nil {
		return err
	}
	for _, line := range strings.SplitAfter(out, "\n") {
		// ctr's log lines, such as its word about cgroup v1, are not part of the table.
		if !strings.HasPrefix(line, "time=") {
			fmt.Print(line)
		}
	}
	out, err = s.ctr(ctx, "task", "metrics", id)
	if err != nil {
		return err
	}
	if err := printUsage(out); err != nil {
		return err
	}
	return s.account(ctx, uint64(len(paths)))
}

// get asks until the service answers: a container that was started has not yet bound its first byte of output.
func (s *show) get(ctx context.Context, path string) error {
	url := "http://127.0.0.1:" + port + path
	fmt.Printf("\n> GET %s\n", url)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				return fmt.Errorf("GET %s: %s, %w", url, resp.Status, err)
			}
			fmt.Printf("%s\n(after %v)\n", strings.TrimSpace(string(body)), time.Since(begin).Round(100*time.Microsecond))
			return nil
		} else if ctx.Err() != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// rows are those of `ctr task metrics` that a reader can judge, on cgroup v1 and v2, and how to spell their values.
var rows = map[string]func(uint64) string{
	"cpuacct.usage":         nanoseconds,
	"cpu.usage_usec":        func(v uint64) string { return nanoseconds(v * 1000) },
	"memory.usage_in_bytes": mebibytes,
	"memory.usage":          mebibytes,
}

func nanoseconds(v uint64) string { return time.Duration(v).Round(100 * time.Microsecond).String() }
func mebibytes(v uint64) string   { return fmt.Sprintf("%.1f MiB", float64(v)/(1<<20)) }

func printUsage(table string) error {
	found := 0
	for _, line := range strings.Split(table, "\n") {
		f := strings.Fields(line)
		if len(f) != 2 || rows[f[0]] == nil {
			continue
		}
		v, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil || v == 0 {
			return fmt.Errorf("ctr task metrics: %s is %q", f[0], f[1])
		}
		fmt.Printf("%-24s %s\n", f[0], rows[f[0]](v))
		found++
	}
	if found != 2 {
		return fmt.Errorf("ctr task metrics: CPU or memory is missing:\n%s", table)
	}
	return nil
}

// undo stops and removes what was started.
func (s *show) undo(ctx context.Context) error {
	var errs []error
	if s.started {
		_, err := s.ctr(ctx, "task", "kill", "--signal", "SIGTERM", id)
		errs = append(errs, err, s.stopped(ctx))
		for _, args := range [][]string{{"task", "rm", id}, {"container", "rm", id}} {
			_, err := s.ctr(ctx, args...)
			errs = append(errs, err)
		}
	}
	if s.imported {
		_, err := s.ctr(ctx, "image", "rm", image)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stopped waits for the end that SIGTERM asks for.
func (s *show) stopped(ctx context.Context) error {
	for ctx.Err() == nil {
		out, err := s.d.Ctr(ctx, "-n", s.namespace, "task", "ls")
		if err != nil || strings.Contains(out, "STOPPED") {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the service did not stop on SIGTERM: %w", ctx.Err())
}

func (s *show) ctr(ctx context.Context, args ...string) (string, error) {
	fmt.Printf("\n$ ctr %s\n", s.short(args))
	return s.d.Ctr(ctx, append([]string{"-n", s.namespace}, args...)...)
}

func (s *show) hachi(ctx context.Context, args ...string) error {
	fmt.Printf("\n$ hachi %s\n", s.short(args))
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, "hachi"), args...).CombinedOutput()
	fmt.Print(strings.ReplaceAll(string(out), s.dir+"/", ""))
	if err != nil {
		return fmt.Errorf("hachi %s: %w", args[0], err)
	}
	return nil
}

// short spells arguments as they are typed in the folder with the binaries.
func (s *show) short(args []string) string {
	return strings.NewReplacer(s.bin+"/", "", s.dir+"/", "").Replace(strings.Join(args, " "))
}
