// Package engine is the shim's side of an engine process: it starts one, tells it what to run, and says how
// it ended.
//
// An engine may be in its guest's hands. Whatever it says or does not say, nothing here blocks on it: an engine that
// breaks the protocol is killed, and what it says of itself counts for its own container only.
package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/wire"
)

// ErrRefused marks a guest that the engine could not load: a bad module, a missing import, a path or
// user of the spec that does not exist.
var ErrRefused = errors.New("engine refused")

// Starter starts a command and returns a function that waits for its end and returns its status as a
// shell would count it: the exit code, or 128 and the signal's number.
type Starter func(*exec.Cmd) (wait func() (status int), err error)

// Options say what an engine runs. Only Binary, Config.Args and Config.Module's file (or a toolbox command) are required.
type Options struct {
	// Binary is the path of hachi-engine.
	Binary string
	// Config is sent to the engine; Start fills in its descriptors.
	Config wire.Config
	// Module and Artifact are the guest's files. Both stay the caller's to close.
	Module, Artifact *os.File
	// Name is what messages call the module.
	Name string
	// Root is a finished root file system to enter instead of Config.Jail.Root's mounts.
	Root *os.File
	// Listeners are given to the guest; they stay the caller's to close.
	Listeners []Listener
	// Stdin, Stdout and Stderr are the guest's own; nil is /dev/null.
	Stdin, Stdout, Stderr *os.File
	// Terminal makes Stdin the controlling terminal of the engine's session.
	Terminal bool
	// Cloneflags are the namespaces that the engine is born into, such as CLONE_NEWNS.
	Cloneflags uintptr
	// Starter starts the process; nil starts a plain child.
	Starter Starter
}

// Listener is a listening socket for the guest and its name in LISTEN_FDNAMES.
type Listener struct {
	Name string
	File *os.File
}

// Start starts an engine process and sends it its configuration. The guest loads in the background: Ready
// says how that went.
func Start(o Options) (*Process, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("start engine: socketpair: %w", err)
	}
	control, theirs := os.NewFile(uintptr(pair[0]), "engine"), os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()

	cmd := exec.Command(o.Binary, "run")
	cmd.Env = environment
	// A nil *os.File must not become a non-nil reader or writer.
	if o.Stdin != nil {
		cmd.Stdin = o.Stdin
	}
	if o.Stdout != nil {
		cmd.Stdout = o.Stdout
	}
	if o.Stderr != nil {
		cmd.Stderr = o.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Setctty:    o.Terminal,
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: o.Cloneflags,
	}
	cmd.ExtraFiles = []*os.File{theirs}
	config := o.assign(cmd)

	start := o.Starter
	if start == nil {
		start = plain
	}
	wait, err := start(cmd)
	if err != nil {
		control.Close()
		return nil, fmt.Errorf("start engine: %w", err)
	}
	return newProcess(cmd.Process, control, &config, wait), nil
}

// environment is the engine's own; a guest's is in its configuration. Two processors are enough for a guest, which is
// one thread, and for the rest: a guest that computes cannot keep a stop from being heard, on a machine with one
// processor too. More would cost memory each, and the time to take their threads into the jail.
var environment = []string{"GOMAXPROCS=2"}

// assign hands the options' files to cmd and returns a configuration that names them.
func (o *Options) assign(cmd *exec.Cmd) wire.Config {
	c := o.Config
	give := func(f *os.File) int {
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		return 2 + len(cmd.ExtraFiles)
	}
	c.Module = nil
	if o.Module != nil {
		c.Module = &wire.Module{Name: o.Name, FD: give(o.Module)}
		if o.Artifact != nil {
			c.Module.Artifact = give(o.Artifact)
		}
	}
	if o.Root != nil {
		c.Jail.Root = &jail.Root{FD: give(o.Root)}
	}
	c.Listeners = nil
	for _, l := range o.Listeners {
		c.Listeners = append(c.Listeners, wire.Listener{FD: give(l.File), Name: l.Name})
	}
	return c
}

func plain(cmd *exec.Cmd) (func() int, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() int {
		_ = cmd.Wait() // the state says it all
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return 128 + int(status.Signal())
		}
		return status.ExitStatus()
	}, nil
}
