// Command demo is `make run`: a Wasm web service in a private containerd, from image to answer to clean machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/internal/testenv/loopback"
	"github.com/hachi-run/hachi/internal/testenv/reap"
)

// insideEnv marks the process that is already in its own network namespace.
const insideEnv = "HACHI_DEMO_INSIDE"

func main() { os.Exit(run()) }

func run() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "make run: a private containerd needs root for namespaces, cgroups and mounts (run: sudo make run)")
		return 1
	}
	if os.Getenv(insideEnv) == "" {
		return enter()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "make run: %v\n", err)
		return 1
	}
	return 0
}

// enter runs this program again in a network namespace of its own, so that no port of the machine is taken and
// the service can be reached by nobody else.
func enter() int {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	// A Ctrl-C reaches the whole group; the one inside cleans up and ends, and this one waits for it.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "make run: new network namespace: %v\n", err)
		return 1
	}
	return 0
}

func demo(ctx context.Context) (err error) {
	if err := loopback.Up(); err != nil {
		return err
	}
	top, err := testenv.Source()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	release, err := reap.Start()
	if err != nil {
		return err
	}
	defer release()
	mark := filepath.Base(dir)
	scope := leak.Scope{Marks: []string{mark}, Trees: []string{"/run/hachi"}}
	before := leak.Take(scope)

	bin := filepath.Join(top, "bin")
	d, err := daemon.Start(ctx, daemon.Options{Bin: filepath.Join(bin, "tools", "containerd-2.4.2"), Path: []string{bin}, Dir: dir})
	if err != nil {
		return err
	}
	s := &show{d: d, namespace: mark, bin: bin, dir: dir}
	say("containerd 2.4.2 is up, private: own socket, root, state and network; no line of configuration for hachi")
	err = s.service(ctx)

	// From here on everything is undone, whatever happened and even after Ctrl-C.
	clean, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err = errors.Join(err, s.undo(clean), d.Stop(), d.Remove())
	daemon.RemoveCgroups(mark)
	if left := leak.Since(before, scope, 5*time.Second); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %q", left))
	}
	if err != nil {
		return fmt.Errorf("%w\nthe end of containerd's log:\n%s", err, d.LogTail(15))
	}
	say("stopped; no process, cgroup, mount, namespace, socket or file is left")
	return nil
}

func say(text string) { fmt.Printf("\n# %s\n", text) }
