package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/runtime/artifact/store"
	"github.com/hachi-run/hachi/runtime/engine"
	"github.com/hachi-run/hachi/runtime/jail"
	"github.com/hachi-run/hachi/runtime/wire"
)

const (
	// exitTimeout is the exit code after --timeout, as timeout(1) has it.
	exitTimeout = 124
	// exitRun is the exit code when the guest could not be run at all, as `docker run` has it.
	exitRun = 125
	// runGrace is how long a guest's open connections may go on after Ctrl-C.
	runGrace = 10 * time.Second
)

type runFlags struct {
	env, volumes, ports []string
	workdir, memory     string
	cpus                float64
	timeout             time.Duration
	profile             string
}

func newRunCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [flags] MODULE [ARG...]",
		Short: "Run a Wasm module here, as an ordinary user, without containerd",
		Long: `Run a Wasm module in a jailed process of its own. Its stdin, stdout, stderr and exit code are the guest's:
134 is a trap, 128+N a signal, 137 out of memory, 124 the end of --timeout, and 125 a module that could not be run.

The guest sees the directories given with -v and nothing else, and gets a listening socket for each -p as descriptor 3
and up (LISTEN_FDS).`,
		Example: `  hachi run app.wasm one two
  hachi run -e GREETING=hi -v ./data:/data:ro -p 8080 --memory 64Mi --cpus 0.5 server.wasm
  hachi run --profile cpu.pprof app.wasm && go tool pprof -top cpu.pprof`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
	flags.StringArrayVarP(&f.volumes, "volume", "v", nil, "directory `HOST:GUEST[:ro]` for the guest")
	flags.StringArrayVarP(&f.ports, "publish", "p", nil, "`[[IP:]PORT:]GUESTPORT` to listen on for the guest")
	flags.StringVarP(&f.workdir, "workdir", "w", "", "working directory inside the guest")
	flags.StringVarP(&f.memory, "memory", "m", "", "memory limit, such as 64Mi or 1g")
	flags.Float64Var(&f.cpus, "cpus", 0, "CPU limit, such as 0.5")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the guest after this time")
	flags.StringVar(&f.profile, "profile", "", "write where the guest computes to `FILE`, for go tool pprof")
	// What hands that know Docker type without thinking.
	for _, name := range []string{"rm", "interactive", "tty"} {
		short := map[string]string{"interactive": "i", "tty": "t"}[name]
		flags.BoolP(name, short, false, "accepted and ignored: it is always so here")
		_ = flags.MarkHidden(name)
	}
	return c
}

// run runs the module and returns its exit code; an error is one of hachi's own.
func (f *runFlags) run(ctx context.Context, args []string) (int, error) {
	g := engine.Guest{Config: wire.Config{Args: args, Cwd: f.workdir}, Name: filepath.Base(args[0])}
	var err error
	if g.Config.Env, err = environ(f.env); err != nil {
		return 0, err
	}
	if g.Config.Preopens, err = preopens(f.volumes); err != nil {
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
	if g.Module, err = os.Open(path); err != nil {
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
	return wait(guest, signals, f.timeout, end), nil
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

// artifactDir is where compiled modules are kept: for root where pods look, else in the user's cache.
func artifactDir() string {
	if os.Geteuid() == 0 {
		return store.DefaultDir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(os.TempDir(), "hachi-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(cache, "hachi", "artifacts")
}

// environ makes the guest's environment of -e flags.
func environ(flags []string) ([]string, error) {
	var env []string
	for _, e := range flags {
		name, _, given := strings.Cut(e, "=")
		if name == "" {
			return nil, fmt.Errorf("-e %q: no name (write NAME=VALUE)", e)
		}
		if !given {
			value, ok := os.LookupEnv(name)
			if !ok {
				continue // as Docker does
			}
			e = name + "=" + value
		}
		env = append(env, e)
	}
	return env, nil
}

// preopens makes the guest's directories of -v flags.
func preopens(flags []string) ([]wire.Preopen, error) {
	var out []wire.Preopen
	for _, v := range flags {
		parts := strings.Split(v, ":")
		p := wire.Preopen{}
		switch {
		case len(parts) == 3 && (parts[2] == "ro" || parts[2] == "rw"):
			p.ReadOnly = parts[2] == "ro"
		case len(parts) != 2:
			return nil, fmt.Errorf("-v %q: not HOST:GUEST[:ro]", v)
		}
		if parts[0] == "" || !strings.HasPrefix(parts[1], "/") && parts[1] != "." {
			return nil, fmt.Errorf("-v %q: the guest's directory must be absolute, or \".\"", v)
		}
		host, err := filepath.Abs(parts[0])
		if err != nil {
			return nil, fmt.Errorf("-v %q: %w", v, err)
		}
		info, err := os.Stat(host)
		if err != nil {
			return nil, fmt.Errorf("-v %q: %w (create it first)", v, err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("-v %q: %s is not a directory (give the directory it is in)", v, host)
		}
		p.Guest, p.Path = parts[1], host
		out = append(out, p)
	}
	return out, nil
}

// memoryLimit reads --memory as Docker and Kubernetes write it: 64m, 64Mi, 64MB are all 64·2²⁰ bytes.
func memoryLimit(flag string) (uint64, error) {
	if flag == "" {
		return 0, nil
	}
	if strings.HasSuffix(flag, "i") {
		flag += "B" // Kubernetes' 64Mi is Docker's 64MiB
	}
	n, err := units.RAMInBytes(flag)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("--memory %q: not a size (write 64Mi or 1g)", flag)
	}
	return uint64(n), nil
}

// publish reads one -p flag, which is Docker's: [[IP:]PORT:]GUESTPORT. A lone port is the same on both sides. The
// guest's number is in the socket's name only.
func publish(flag string) (wire.Listener, error) {
	spec := strings.TrimSuffix(flag, "/tcp")
	host, guest := spec, spec
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		host, guest = spec[:i], spec[i+1:]
	}
	ip, port, err := net.SplitHostPort(host)
	if err != nil {
		ip, port = "", host
	}
	for _, p := range []string{port, guest} {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 && p != port {
			return wire.Listener{}, fmt.Errorf("-p %q: not [[IP:]PORT:]GUESTPORT, or not TCP", flag)
		}
	}
	return wire.Listener{Address: net.JoinHostPort(ip, port), Name: "tcp-" + guest}, nil
}
