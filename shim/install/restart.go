package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ways to restart containerd.
const (
	// RestartAuto is systemd where it runs, and an error elsewhere: nobody may be there to start containerd again.
	RestartAuto = "auto"
	// RestartSystemd asks the host's systemctl.
	RestartSystemd = "systemd"
	// RestartSignal ends containerd with SIGTERM, for hosts where something else starts it again.
	RestartSignal = "signal"
)

// restart restarts the containerd that d describes. It does not wait until the new one serves.
func (i *Installer) restart(ctx context.Context, d *containerd) error {
	if err := i.canRestart(); err != nil {
		return err
	}
	switch {
	case i.o.RestartCommand != "":
		return i.onHost(ctx, "sh", "-c", i.o.RestartCommand)
	case i.o.Restart == RestartSignal:
		if startTime(d.pid) != d.started {
			return nil // it ended by itself
		}
		if err := unix.Kill(d.pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("restart containerd: signal process %d: %w", d.pid, err)
		}
		return nil
	}
	unit := i.o.Unit
	if unit == "" {
		if unit = unitOf(d.pid); unit == "" {
			unit = "containerd.service"
		}
	}
	return i.onHost(ctx, "systemctl", "restart", unit)
}

// canRestart is asked before anything is changed.
func (i *Installer) canRestart() error {
	if i.o.RestartCommand != "" || i.o.Restart == RestartSignal {
		return nil
	}
	at, err := i.host.At("/run/systemd/system")
	if err != nil {
		return err
	}
	if _, err := os.Stat(at); err != nil {
		return errors.New("restart containerd: systemd does not run on this host (give --restart=signal where something starts containerd again when it ends, else --restart-command)")
	}
	return nil
}

var unitName = regexp.MustCompile(`/([A-Za-z0-9:_.@\\-]+\.service)`)

// unitOf is the systemd unit that a process belongs to; empty when it cannot be told.
func unitOf(pid int) string {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "0::") && !strings.Contains(line, ":name=systemd:") {
			continue
		}
		if m := unitName.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return ""
}

// commandTime bounds a command on the host.
const commandTime = 90 * time.Second

// onHost runs a command as the host's own processes see the host: in the namespaces of its first process when this one is
// in a container.
func (i *Installer) onHost(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	if i.host != "/" {
		args = append([]string{"nsenter", "--target", "1", "--mount", "--uts", "--ipc", "--net", "--"}, args...)
	}
	out, err := i.inRoot(ctx, args...)
	if err != nil {
		return fmt.Errorf("on the host: %s: %w%s", strings.Join(args, " "), err, tail(out))
	}
	return nil
}

// inRoot runs a program of the host with the host's root directory, and returns what it wrote.
func (i *Installer) inRoot(ctx context.Context, args ...string) (stdout []byte, err error) {
	program := args[0]
	if !path.IsAbs(program) {
		if program, err = i.find(program); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Args, cmd.Dir = args, "/"
	cmd.Env = []string{"PATH=" + hostPath, "LANG=C"}
	if i.host != "/" {
		cmd.SysProcAttr = &unix.SysProcAttr{Chroot: string(i.host)}
	}
	// Longer than a killed command's children may hold its output.
	cmd.WaitDelay = 5 * time.Second
	var both bytes.Buffer
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &both
	if err := cmd.Run(); err != nil {
		return append(both.Bytes(), out.Bytes()...), err
	}
	return out.Bytes(), nil
}

const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// find looks for a program on the host; the name it returns is the host's.
func (i *Installer) find(name string) (string, error) {
	for _, dir := range filepath.SplitList(hostPath) {
		at, err := i.host.At(path.Join(dir, name))
		if err != nil {
			continue
		}
		if st, err := os.Stat(at); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("%s: %w on the host", name, exec.ErrNotFound)
}

// tail is the end of a command's output, for an error.
func tail(out []byte) string {
	const most = 2000
	text := strings.TrimSpace(string(out))
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	if text != "" {
		text = "\n" + text
	}
	return text
}
