package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// machine is one run of qemu.
type machine struct {
	kernel, image string
	stdout        io.Writer // the test's output, as it comes
	limit         time.Duration
}

// A machine is up in 3 seconds, on a busy host in 20. Now and then this qemu spins before that for ever: then another try is
// no repetition of the test, which has not begun.
const (
	bootLimit = 2 * time.Minute
	bootTries = 3
)

var errNotUp = errors.New("the kernel did not come up")

var exited = regexp.MustCompile(`hachi-init: exit (\d+)`)

// run boots, and returns the exit code that init told on the console. Without one, the error holds the console.
func (m machine) run(ctx context.Context) (code int, err error) {
	for range bootTries {
		if code, err = m.try(ctx); !errors.Is(err, errNotUp) {
			break
		}
	}
	return code, err
}

func (m machine) try(ctx context.Context) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi",
		// With cmpxchg16b, this qemu corrupts the slab allocator of some kernels.
		"-cpu", "max,-cx16",
		"-smp", "2", "-m", "1536", "-nodefaults", "-no-reboot", "-display", "none",
		// The first line is the kernel's and init's, the second the test's alone.
		"-chardev", "stdio,id=test,signal=off", "-chardev", "file,id=console,path=/dev/stderr",
		"-serial", "chardev:console", "-serial", "chardev:test",
		"-kernel", m.kernel, "-initrd", m.image,
		// On a busy host the machine's clocks come late: the kernel must not take that for broken hardware.
		"-append", "console=ttyS0 panic=-1 quiet no_timer_check nowatchdog rdinit=/init",
	)
	var console console
	cmd.Stdout, cmd.Stderr = m.stdout, &console
	late := time.AfterFunc(bootLimit, func() {
		if !console.says("hachi-init: ") {
			stop(errNotUp)
		}
	})
	defer late.Stop()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if found := exited.FindStringSubmatch(console.String()); found != nil {
		return strconv.Atoi(found[1])
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return 0, fmt.Errorf("%w (apt-get install qemu-system-x86)", err)
	case errors.Is(context.Cause(ctx), errNotUp):
		err = fmt.Errorf("%w in %s", errNotUp, bootLimit)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("not done after %s", m.limit)
	case err == nil:
		err = errors.New("the machine ended before the test")
	}
	return 0, fmt.Errorf("%w; its console:\n%s", err, strings.TrimSpace(console.String()))
}

// console is what the kernel and init said.
type console struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func (c *console) says(words string) bool { return strings.Contains(c.String(), words) }

// limit is a little more than what the test was given, or half an hour.
func limit(args []string) time.Duration {
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "-test.timeout="); ok {
			if d, err := time.ParseDuration(value); err == nil && d > 0 {
				return d + time.Minute
			}
		}
	}
	return 30 * time.Minute
}
