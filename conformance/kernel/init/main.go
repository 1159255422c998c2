// Command init is process 1 of the machine that tests run in: it mounts what a Linux host has mounted, loads the
// modules, runs the test as a child (a test that panics must not take the kernel along), tells its exit code on the
// console and turns the machine off.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Printf("hachi-init: %v\n", err)
	} else {
		fmt.Printf("hachi-init: exit %d\n", code)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Printf("hachi-init: power off: %v\n", err)
	}
}

func run() (code int, err error) {
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"}, {"tmpfs", "/dev/shm"},
		{"mqueue", "/dev/mqueue"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
		{"cgroup2", "/sys/fs/cgroup"}, {"bpf", "/sys/fs/bpf"}, {"tracefs", "/sys/kernel/tracing"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return 0, err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return 0, fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return 0, err
	}
	for _, m := range modules {
		if err := load(m); err != nil {
			return 0, fmt.Errorf("load %s: %w", m, err)
		}
	}
	if err := loopback(); err != nil {
		return 0, fmt.Errorf("bring lo up: %w", err)
	}
	if err := leaveInitramfs(); err != nil {
		return 0, fmt.Errorf("leave the first root: %w", err)
	}
	fmt.Println("hachi-init: up")
	return test()
}

// leaveInitramfs makes the root a mount of its own: the kernel's first one can never be left, and so no container could
// enter another (pivot_root(2)).
func leaveInitramfs() error {
	const root = "/all"
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, "") },
		func() error { return unix.Chdir(root) },
		func() error { return unix.Mount(root, "/", "", unix.MS_MOVE, "") },
		func() error { return unix.Chroot(".") },
		func() error { return unix.Chdir("/") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

func test() (code int, err error) {
	args, err := os.ReadFile("/args")
	if err != nil {
		return 0, err
	}
	cwd, err := os.ReadFile("/cwd")
	if err != nil {
		return 0, err
	}
	tty, err := rawTerminal("/dev/ttyS1")
	if err != nil {
		return 0, err
	}
	defer tty.Close()
	cmd := exec.Command("/test")
	if len(args) > 0 {
		cmd.Args = append(cmd.Args, strings.Split(string(args), "\x00")...)
	}
	cmd.Dir = string(cwd)
	cmd.Env = []string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/bin"}
	cmd.Stdout, cmd.Stderr = tty, tty
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		code = exit.ExitCode()
	case errors.As(err, &exit):
		fmt.Fprintf(tty, "%s\n", exit)
		code = 2
	case err != nil:
		return 0, err
	}
	return code, drain(tty)
}

// drain waits until all is out: what is still on the line would be lost with the power.
func drain(tty *os.File) error {
	for {
		// Signals that Go's runtime sends itself interrupt it.
		if err := unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, 1); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// rawTerminal opens a line on which a newline stays one.
func rawTerminal(path string) (*os.File, error) {
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err == nil {
		mode.Oflag &^= unix.OPOST
		mode.Lflag &^= unix.ECHO | unix.ICANON
		err = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, mode)
	}
	if err != nil {
		tty.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tty, nil
}
