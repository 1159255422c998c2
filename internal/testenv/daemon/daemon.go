// Package daemon runs a private containerd: own socket, root, state and log, no listener off this machine,
// no line of configuration for hachi unless CRI is asked for.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options say how a containerd is started.
type Options struct {
	// Bin holds containerd, ctr and containerd-shim-runc-v2; see testenv.Containerd.
	Bin string
	// Path are folders put before Bin on containerd's PATH; shims are found there.
	Path []string
	// Dir is where everything goes; short, because of the sockets in it.
	Dir string
	// CRI enables the CRI plugin when it is not nil.
	CRI *CRI
	// LogLevel is containerd's and the shims'; default "debug".
	LogLevel string
	// Env is added to this process's environment.
	Env []string
}

// Daemon is a containerd that may be stopped, killed and started again over the same state.
type Daemon struct {
	// Address is the path of its gRPC socket.
	Address string

	o Options
	p *process
}

// process is one run of containerd.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; set before done is closed
}

func start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Start starts containerd and returns when it serves.
func Start(ctx context.Context, o Options) (*Daemon, error) {
	d := &Daemon{Address: filepath.Join(o.Dir, "c.sock"), o: o}
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{o.root(), o.state()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "config.toml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Start starts a containerd again that was stopped or killed, and returns when it serves.
func (d *Daemon) Start(ctx context.Context) error {
	log, err := os.OpenFile(d.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// Not CommandContext: the daemon's life is Stop's business. In this process's group, see package reap.
	cmd := exec.Command(filepath.Join(d.o.Bin, "containerd"), "--config", filepath.Join(d.o.Dir, "config.toml"), "--log-level", cmp.Or(d.o.LogLevel, "debug"))
	cmd.Env = append(append(os.Environ(), d.o.Env...), "PATH="+d.Path())
	cmd.Stdout, cmd.Stderr = log, log
	p, err := start(cmd)
	if err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	d.p = p
	if err := d.serves(ctx); err != nil {
		return errors.Join(fmt.Errorf("start containerd: %w\n%s", err, d.LogTail(20)), d.Kill())
	}
	return nil
}

// serves waits until ctr gets an answer, which containerd gives when all its plugins are up.
func (d *Daemon) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if conn, err := net.Dial("unix", d.Address); err == nil {
			conn.Close()
			if _, err := d.Ctr(ctx, "version"); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("no answer within 30 s")
		case <-d.p.done:
			return fmt.Errorf("it ended: %v", d.p.err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends containerd as a service manager does, and what it runs goes on. It is idempotent.
func (d *Daemon) Stop() error { return d.end(unix.SIGTERM) }

// Kill ends containerd at once, and what it runs goes on. It is idempotent.
func (d *Daemon) Kill() error { return d.end(unix.SIGKILL) }

func (d *Daemon) end(sig unix.Signal) error {
	select {
	case <-d.p.done:
		return nil
	default:
	}
	if err := d.p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop containerd: %w", err)
	}
	select {
	case <-d.p.done:
		return nil
	case <-time.After(20 * time.Second):
		_ = d.p.cmd.Process.Kill()
		<-d.p.done
		return fmt.Errorf("stop containerd: still there 20 s after %v; killed", sig)
	}
}

// Remove unmounts and deletes what containerd itself keeps mounted or made; call it after Stop. What it
// cannot delete because a task still uses it stays, for a leak check to find.
func (d *Daemon) Remove() error {
	// The snapshotter's probe and tmpmounts are gone with the daemon; the state directory may be a tmpfs.
	return errors.Join(os.RemoveAll(d.o.state()), os.RemoveAll(d.o.root()))
}

// PID is the process id of the running containerd.
func (d *Daemon) PID() int { return d.p.cmd.Process.Pid }

// State is containerd's state directory; bundles are in <state>/io.containerd.runtime.v2.task/<namespace>/<id>.
func (d *Daemon) State() string { return d.o.state() }

// Path is the PATH that containerd has.
func (d *Daemon) Path() string {
	return strings.Join(append(append([]string{}, d.o.Path...), d.o.Bin, os.Getenv("PATH")), ":")
}

// Command is a ctr of the same version, speaking to this containerd. Flags of ctr itself may stand first in args.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(d.o.Bin, "ctr"), append([]string{"--address", d.Address}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+d.Path())
	return cmd
}

// Ctr runs ctr and returns what it printed on both streams.
func (d *Daemon) Ctr(ctx context.Context, args ...string) (string, error) {
	out, err := d.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// LogPath is the file with containerd's and the shims' log.
func (d *Daemon) LogPath() string { return filepath.Join(d.o.Dir, "containerd.log") }

// LogTail returns the last n lines of the log.
func (d *Daemon) LogTail(n int) string {
	raw, err := os.ReadFile(d.LogPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
