// Package install puts hachi on a node and takes it away again: programs, containerd's configuration, the restart that
// containerd needs to see it. It works on the host itself and from a privileged pod that has the host's root mounted.
//
// A step that fails takes back those before it. What is there is found out by looking, never remembered: an
// installation that was cut off at any point is finished, or taken away, by the next call.
package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"time"

	"github.com/hachi-run/hachi/shim/install/conf"
)

// Options say where things are. The zero value fits a host with systemd and an ordinary containerd.
type Options struct {
	// Host is where the host's root is seen; default "/".
	Host string
	// Dir is the host's folder for the programs; default "/opt/hachi".
	Dir string
	// From is the folder of this process with the programs; Version is what they are called. Install needs both.
	From, Version string
	// Handler is the runtime's name in containerd; default "hachi".
	Handler string
	// Sandboxer is "shim" for pods without a pause image (containerd 2); default "podsandbox".
	Sandboxer string
	// Socket is containerd's; default "/run/containerd/containerd.sock".
	Socket string
	// Config is containerd's main file; default: what the running one was started with, else
	// "/etc/containerd/config.toml".
	Config string
	// Restart is one of RestartAuto (default), RestartSystemd, RestartSignal. RestartCommand, for the host's sh,
	// is used instead of it when it is not empty.
	Restart, RestartCommand string
	// Unit is containerd's systemd unit; default: the one that the running containerd belongs to.
	Unit string
	// Timeout is how long containerd may take to serve after a restart; default one minute.
	Timeout time.Duration
	// Log gets one line per step; default slog.Default().
	Log *slog.Logger
}

// Installer installs and uninstalls on one node. It is not for concurrent use; other processes are kept out by a lock.
type Installer struct {
	o        Options
	host     Host
	programs programs
	log      *slog.Logger
}

// New checks options. It touches nothing.
func New(o Options) (*Installer, error) {
	o.Host = filepath.Clean(cmp.Or(o.Host, "/"))
	o.Dir = cmp.Or(o.Dir, "/opt/hachi")
	o.Handler = cmp.Or(o.Handler, "hachi")
	o.Socket = cmp.Or(o.Socket, "/run/containerd/containerd.sock")
	o.Restart = cmp.Or(o.Restart, RestartAuto)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	for _, p := range []string{o.Host, o.Dir, o.Socket, cmp.Or(o.Config, "/")} {
		if !path.IsAbs(p) {
			return nil, fmt.Errorf("install: %q: not an absolute path", p)
		}
	}
	if path.Clean(o.Dir) == "/" {
		return nil, errors.New("install: --dir /: want a folder of hachi's own")
	}
	switch o.Restart {
	case RestartAuto, RestartSystemd, RestartSignal:
	default:
		return nil, fmt.Errorf("install: --restart %q: unknown (want auto, systemd or signal)", o.Restart)
	}
	i := &Installer{o: o, host: Host(o.Host), log: cmp.Or(o.Log, slog.Default())}
	i.programs = programs{i.host, path.Clean(o.Dir)}
	return i, nil
}

// Install makes the node able to run hachi's pods. It returns when containerd serves the runtime, at once when it already
// does. Pods that run are not touched: containerd's restart does not end them, and the programs they use stay.
func (i *Installer) Install(ctx context.Context) error {
	if err := needKernel(); err != nil {
		return err
	}
	unlock, err := i.lock()
	if err != nil {
		return err
	}
	defer unlock()
	d, err := i.ask(ctx)
	if err != nil {
		return err
	}
	var back undo
	if err := i.install(ctx, d, &back); err != nil {
		return errors.Join(err, i.rollback(ctx, d, &back))
	}
	build, err := i.programs.current()
	if err != nil {
		return err
	}
	busy, err := i.programs.dropUnused(build)
	if err != nil {
		i.log.Warn("older programs stay", "error", err)
	}
	if len(busy) > 0 {
		i.log.Info("running pods keep their older programs", "builds", busy)
	}
	return nil
}

func (i *Installer) install(ctx context.Context, d *containerd, back *undo) error {
	i.useConfigOf(d)
	runtime := i.runtime(d)
	tree, err := conf.Read(i.host, i.o.Config)
	if err != nil {
		return err
	}
	changes, err := tree.Add(runtime, d.major)
	if err != nil {
		return err
	}
	restart := len(changes) > 0 || !d.knows(runtime)
	if restart {
		// Before anything is touched.
		if err := i.canRestart(); err != nil {
			return err
		}
	}
	before, err := i.programs.current()
	if err != nil {
		return err
	}
	build, fresh, err := i.programs.put(i.o.From, i.o.Version)
	if err != nil {
		return err
	}
	if fresh {
		back.add("copy of programs", func() error { return i.programs.drop(build) })
		i.log.Info("programs copied", "build", build)
	}
	if build != before {
		back.add("link to programs", func() error { return i.programs.use(before) })
		if err := i.programs.use(build); err != nil {
			return fmt.Errorf("link programs: %w", err)
		}
		i.log.Info("programs in use", "build", build, "before", before)
	}
	if err := i.write(changes, back); err != nil {
		return err
	}
	if !restart {
		return nil
	}
	if err := i.validate(ctx, d, runtime.Path); err != nil {
		return err
	}
	return i.reload(ctx, d, back, func(now *containerd) error {
		if now.knows(runtime) {
			return nil
		}
		return fmt.Errorf("containerd %s does not know the runtime %s after its restart (does it read %s?)", now.version, runtime.Handler, i.o.Config)
	})
}

// runtime is what containerd shall know.
func (i *Installer) runtime(d *containerd) conf.Runtime {
	r := conf.Runtime{Handler: i.o.Handler, Path: i.programs.shim(), Sandboxer: i.o.Sandboxer}
	// The Linux containers of a pod are for the runc that the node's other containers have.
	runc := d.runc()
	r.SystemdCgroup, r.RuncBinary = runc.flag("SystemdCgroup"), runc.text("BinaryName")
	return r
}

func (i *Installer) useConfigOf(d *containerd) {
	if i.o.Config == "" {
		i.o.Config = cmp.Or(configFlag(d.pid), "/etc/containerd/config.toml")
	}
}
