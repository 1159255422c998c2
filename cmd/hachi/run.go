package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/runtime/artifact/store"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/wire"
)

const (
	// exitTimeout is the exit code after --timeout, as timeout(1) has it.
	exitTimeout = 124
	// exitRun is the exit code when the guest was not run at all, as `docker run` has it.
	exitRun = 125
	// runGrace is how long a guest's open connections may go on after Ctrl-C.
	runGrace = 10 * time.Second
)

type runFlags struct {
	env, envFiles          []string
	volumes, mounts, ports []string
	workdir, memory        string
	cpus                   float64
	timeout                span
	profile                string
}

func newRunCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [flags] MODULE [ARG...]",
		Short: "Run a Wasm module here, as an ordinary user, without containerd",
		Long: `Run a Wasm module in a jailed process of its own. Its stdin, stdout, stderr and exit code are the guest's:
134 is a trap, 128+N a signal, 137 out of memory, 124 the end of --timeout, and 125 a module that could not be run or a
wrong flag.

The guest sees the directories and files given with -v and nothing else, and gets a listening socket for each -p as
descriptor 3 and up (LISTEN_FDS).`,
		Example: `  hachi run app.wasm one two
  hachi run -e GREETING=hi -v ./data:/data:ro -p 8080 --memory 64Mi --cpus 0.5 server.wasm
  hachi run --profile cpu.pprof app.wasm && go tool pprof -top cpu.pprof`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkHabits(cmd); err != nil {
				return err
			}
			code, err := f.run(cmd.Context(), args)
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "hachi:", err)
				code = exitRun
			}
			return exitCode(code)
		},
	}
	flags := c.Flags()
	flags.SetInterspersed(false) // what follows the module is the guest's
	flags.StringArrayVarP(&f.env, "env", "e", nil, "environment variable `NAME=VALUE`, or NAME to take it from here")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "`FILE` of lines NAME=VALUE or NAME, before -e")
	flags.StringArrayVarP(&f.volumes, "volume", "v", nil, "directory or file `HOST:GUEST[:ro]` for the guest")
	flags.StringArrayVar(&f.mounts, "mount", nil, "the same as `type=bind,source=HOST,target=GUEST[,readonly]`")
	flags.StringArrayVarP(&f.ports, "publish", "p", nil, "`[[IP:]PORT:]GUESTPORT` to listen on for the guest")
	flags.StringVarP(&f.workdir, "workdir", "w", "", "working directory inside the guest")
	flags.StringVarP(&f.memory, "memory", "m", "", "memory limit, such as 64Mi or 1g")
	flags.Float64Var(&f.cpus, "cpus", 0, "CPU limit, such as 0.5")
	flags.Var(&f.timeout, "timeout", "end the guest after this time: 5s, or seconds (default none)")
	flags.StringVar(&f.profile, "profile", "", "write where the guest computes to `FILE`, for go tool pprof")
	registerHabits(c)
	return c
}

// run runs the module and returns its exit code; an error is one of hachi's own.
func (f *runFlags) run(ctx context.Context, args []string) (int, error) {
	g := engine.Guest{Config: wire.Config{Args: args, Cwd: f.workdir}, Name: filepath.Base(args[0])}
	var err error
	if g.Config.Env, err = environ(f.envFiles, f.env); err != nil {
		return 0, err
	}
	if g.Config.Preopens, err = preopens(f.volumes, f.mounts); err != nil {
		return 0, err
	}
	for _, p := range g.Config.Preopens {
		g.Config.Jail.Paths = append(g.Config.Jail.Paths, jail.Path{Path: p.Path, ReadOnly: p.ReadOnly})
	}
	// What a look-up of names reads; the guest itself sees none of it.
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/services"} {
		if _, err := os.Stat(path); err == nil {
			g.Config.Jail.Paths = append(g.Config.Jail.Paths, jail.Path{Path: path, ReadOnly: true})
		}
	}
	if g.Config.Memory, err = memoryLimit(f.memory); err != nil {
		return 0, err
	}
	if f.cpus < 0 || f.timeout < 0 {
		return 0, errors.New("--cpus and --timeout: less than nothing (leave them out for no limit)")
	}
	for _, p := range f.ports {
		l, err := publish(p)
		if err != nil {
			return 0, err
		}
		g.Config.Listeners = append(g.Config.Listeners, l)
	}
	return f.start(ctx, args[0], g)
}

// start compiles, loads and runs the module g, and waits for its end. The engine process starts meanwhile.
func (f *runFlags) start(ctx context.Context, path string, g engine.Guest) (int, error) {
	binary, err := engineBinary()
	if err != nil {
		return 0, err
	}
	if g.Module, err = openModule(path); err != nil {
		return 0, err
	}
	defer g.Module.Close()
	o := engine.Options{Binary: binary, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if f.profile != "" {
		p, err := createProfile(f.profile)
		if err != nil {
			return 0, err
		}
		defer p.close()
		o.Profile = p.raw
		defer func() {
			if err := p.finish(); err != nil {
				fmt.Fprintln(os.Stderr, "hachi:", err)
			}
		}()
	}
	guest, err := engine.Start(o)
	if err != nil {
		return 0, err
	}
	if g.Artifact, err = compiled(ctx, binary, g.Module); err != nil {
		guest.Kill()
		<-guest.Done()
		return 0, err
	}
	defer g.Artifact.Close()

	// From here on a Ctrl-C is the guest's.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	if err := guest.Load(ctx, g); err != nil {
		return 0, err
	}
	if err := guest.Run(); err != nil {
		return 0, err
	}
	if f.cpus > 0 {
		go guest.Throttle(ctx, f.cpus)
	}
	end := guest.Kill
	if o.Profile != nil {
		end = func() { _ = guest.Stop(syscall.SIGTERM, 0) } // it has a profile to write, and a second for that
	}
	return wait(guest, signals, time.Duration(f.timeout), end), nil
}

// openModule opens the module's file. A word that is no file may well be meant as an image.
func openModule(path string) (*os.File, error) {
	module, err := os.Open(path)
	if err != nil {
		if _, bad := reference.ParseNormalizedNamed(path); errors.Is(err, fs.ErrNotExist) && bad == nil && filepath.Ext(path) != ".wasm" {
			return nil, fmt.Errorf("%w (hachi run takes a module's file; ctr run --runtime io.containerd.hachi.v1 runs images)", err)
		}
		return nil, err
	}
	info, err := module.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s: a directory, not a module", path)
	}
	if err != nil {
		module.Close()
		return nil, err
	}
	return module, nil
}

// engineBinary is hachi-engine beside this program.
func engineBinary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find hachi-engine: %w", err)
	}
	return filepath.Join(filepath.Dir(self), "hachi-engine"), nil
}

// wait waits for the guest's end, passing on signals: the first asks it to stop, the second ends it. After timeout it
// calls end.
func wait(guest *engine.Process, signals <-chan os.Signal, timeout time.Duration, end func()) int {
	var late <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		late = t.C
	}
	stopping, timedOut := false, false
	for {
		select {
		case <-guest.Done():
			if timedOut {
				return exitTimeout
			}
			return int(guest.Exit().Code & 0xff)
		case <-late:
			timedOut = true
			end()
		case s := <-signals:
			if stopping || guest.Stop(s.(syscall.Signal), runGrace) != nil {
				guest.Kill()
			}
			stopping = true
		}
	}
}

// compiled returns the module's compiled form from the user's own store.
func compiled(ctx context.Context, binary string, module *os.File) (*os.File, error) {
	s, err := store.Open(store.Options{Dir: artifactDir(), Compile: engine.Compiler(binary, nil)})
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, "", module)
}

// artifactDir is where compiled modules are kept: for root where pods look, else in the user's cache. A user without a
// home, such as a service, has a folder of their own among the temporary files; the store checks whose it is.
func artifactDir() string {
	if os.Geteuid() == 0 {
		return store.DefaultDir
	}
	if cache, err := os.UserCacheDir(); err == nil {
		dir := filepath.Join(cache, "hachi", "artifacts")
		if os.MkdirAll(dir, 0o700) == nil {
			return dir
		}
	}
	return filepath.Join(os.TempDir(), "hachi-"+strconv.Itoa(os.Getuid())) // one level below the sticky one
}
