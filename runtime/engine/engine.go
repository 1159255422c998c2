// Package engine is the shim's side of an engine process: it starts one, tells it what to run, and says how
// it ended.
//
//	p, err := engine.Start(options)       // a process that waits
//	err = p.Load(ctx, guest)              // its guest is loaded
//	err = p.Run()                         // and runs
//	<-p.Done()
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

	"github.com/hachi-run/hachi/runtime/wire"
)

var (
	// ErrRefused marks a guest that the engine could not load: a bad module, a missing import, a path or
	// user of the spec that does not exist.
	ErrRefused = errors.New("engine refused")
	// ErrListen marks an address that the engine could not listen on for the guest.
	ErrListen = errors.New("listen for the guest")
)

// Starter starts a command and returns a function that waits for its end and returns its status as a
// shell would count it: the exit code, or 128 and the signal's number.
type Starter func(*exec.Cmd) (wait func() (status int), err error)

// Options say how an engine process is born. Only Binary is required.
type Options struct {
	// Binary is the path of hachi-engine.
	Binary string
	// Stdin, Stdout and Stderr are the guest's own; nil is /dev/null. They stay the caller's to close.
	Stdin, Stdout, Stderr *os.File
	// Terminal makes Stdin the controlling terminal of the engine's session.
	Terminal bool
	// Cloneflags are the namespaces that the engine is born into, such as CLONE_NEWNS.
	Cloneflags uintptr
	// Profile, if not nil, gets a CPU profile of the guest when that ends by itself or is stopped. It stays the caller's.
	Profile *os.File
	// Starter starts the process; nil starts a plain child.
	Starter Starter
}

// Guest is what an engine runs. Only Config.Args and a module (or a toolbox command) are required.
type Guest struct {
	// Config is sent to the engine; Load sets what it says of Files.
	Config wire.Config
	// Name is what messages call the module.
	Name string
	// Files are the guest's. They stay the caller's to close.
	wire.Files
}

// Start starts an engine process, which waits for its guest: Load follows, or Kill. The process can be on its way before
// it is known what it will run.
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
	if o.Profile != nil {
		cmd.Args = append(cmd.Args, "--profile")
		cmd.ExtraFiles = append(cmd.ExtraFiles, o.Profile)
	}

	start := o.Starter
	if start == nil {
		start = plain
	}
	wait, err := start(cmd)
	if err != nil {
		control.Close()
		return nil, fmt.Errorf("start engine: %w", err)
	}
	return newProcess(cmd.Process, control, wait), nil
}

// letter is a message on its way, and the files of a configuration.
type letter struct {
	*wire.Message
	files wire.Files
}

// letter is the configuration that names g's files.
func (g *Guest) letter() letter {
	c := g.Config
	c.Module, c.Join = nil, g.Root != nil
	if g.Module != nil {
		c.Module = &wire.Module{Name: g.Name, Compiled: g.Artifact != nil}
	}
	return letter{&wire.Message{Config: &c}, g.Files}
}

// environment is the engine's own; a guest's is in its configuration. With one processor it takes a fifth less time to
// start and to take all threads into the jail; it gives itself another before the guest runs.
var environment = []string{"GOMAXPROCS=1"}

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
