package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/tetratelabs/wazero"

	"github.com/hachi-run/hachi/runtime/artifact/inside"
	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
	"github.com/hachi-run/hachi/runtime/wasi"
	"github.com/hachi-run/hachi/runtime/wire"
)

// link gives the guest its world, as c describes it.
func (g *Guest) link(ctx context.Context, c *wire.Config, listeners []*os.File) error {
	if err := command(g.code); err != nil {
		return err
	}
	o := wasi.Options{Args: c.Args, Env: environment(c), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Listeners: listeners}
	defer func() {
		for _, p := range o.Preopens {
			p.Dir.Close() // the system has a duplicate
		}
	}()
	for _, p := range c.Preopens {
		open, err := preopen(p)
		if err != nil {
			return fmt.Errorf("open %s for %s: %w", p.Path, p.Guest, err)
		}
		o.Preopens = append(o.Preopens, open)
	}
	system, err := wasi.New(o)
	if err != nil {
		return err
	}
	g.system = system
	if err := system.Instantiate(ctx, g.rt, g.code); err != nil {
		return err
	}
	return g.imports()
}

// preopen opens a directory, or the one that a file is in.
func preopen(p wire.Preopen) (wasi.Preopen, error) {
	const flags = oPath | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	dir, only := p.Path, ""
	fd, err := syscall.Open(dir, flags, 0)
	if err == syscall.ENOTDIR {
		dir, only = filepath.Split(dir)
		fd, err = syscall.Open(dir, flags, 0)
	}
	if err != nil {
		return wasi.Preopen{}, err
	}
	return wasi.Preopen{Guest: p.Guest, Dir: os.NewFile(uintptr(fd), dir), Only: only, ReadOnly: p.ReadOnly}, nil
}

// imports checks that all that the guest imports is there. wazero would find out too, but only when the guest is to run.
func (g *Guest) imports() error {
	imports, err := inside.Imports(g.code)
	if err != nil {
		return nil // another wazero, which still finds out
	}
	for _, i := range imports {
		switch {
		case i.Module == rewrite.EpochModule || i.Module == rewrite.YieldModule: // added by the rewriter
		case i.Kind != inside.ImportFunction:
			return fmt.Errorf("import %s.%s: not provided (a WASI command brings its own memory, tables and globals)", i.Module, i.Name)
		case g.rt.Module(i.Module) == nil:
			return fmt.Errorf("import %s.%s: not provided (this build serves %s; build for the target wasip1)", i.Module, i.Name, wasi.ModuleName)
		}
	}
	return nil
}

// oPath is O_PATH, which package syscall does not name.
const oPath = 0x200000

func moduleConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions().
		WithRandSource(rand.Reader) // wazero's default source costs 5 kB; ours is never read
}

// command checks that the module is one that Run can run.
func command(code wazero.CompiledModule) error {
	exports := code.ExportedFunctions()
	start, ok := exports["_start"]
	switch {
	case ok && len(start.ParamTypes()) == 0 && len(start.ResultTypes()) == 0:
		return nil
	case ok:
		return errors.New("_start takes parameters or returns results (a WASI command's _start has neither)")
	case exports["_initialize"] != nil:
		return errors.New("no _start function: this is a WASI reactor, a library (build it as a command, with a main)")
	default:
		return errors.New("no _start function: not a WASI command (build for the target wasip1)")
	}
}

// environment adds what the runtime itself tells a guest.
func environment(c *wire.Config) []string {
	env := c.Env[:len(c.Env):len(c.Env)]
	if c.Cwd != "" {
		env = append(env, "PWD="+c.Cwd)
	}
	if n := len(c.Listeners); n > 0 {
		names := make([]string, n)
		for i, l := range c.Listeners {
			names[i] = l.Name
		}
		env = append(env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	return env
}
