package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hachi-run/hachi/shim/install/conf"
)

// state is what hachi leaves on a node: caches and records, nothing that cannot be made again.
var state = []string{"/var/lib/hachi", "/run/hachi", "/sys/fs/bpf/hachi"}

// BusyError tells which pods keep hachi from being uninstalled.
type BusyError struct{ Pods []string }

func (e *BusyError) Error() string {
	const most = 10
	shown, more := e.Pods, ""
	if len(shown) > most {
		shown, more = shown[:most], fmt.Sprintf(" and %d more", len(shown)-most)
	}
	return fmt.Sprintf("uninstall: %d pods of this node run on hachi: %s%s (delete them first, or use --force)", len(e.Pods), strings.Join(shown, ", "), more)
}

// Removal says how Uninstall goes about it.
type Removal struct {
	// Force goes on while pods run on hachi. They run until they are deleted, and the programs that they need stay.
	Force bool
	// Purge also removes compiled modules and records.
	Purge bool
}

// Uninstall takes hachi away from the node. While pods run on it, it returns a *BusyError and does nothing, unless it is
// forced.
func (i *Installer) Uninstall(ctx context.Context, r Removal) error {
	unlock, err := i.lock()
	if err != nil {
		return err
	}
	defer unlock()
	d, err := i.ask(ctx)
	if err != nil {
		return err
	}
	pods, err := i.pods(ctx)
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	if len(pods) > 0 && !r.Force {
		return &BusyError{pods}
	}
	var back undo
	if err := i.unconfigure(ctx, d, &back); err != nil {
		return errors.Join(err, i.rollback(ctx, d, &back))
	}
	return i.removePrograms(len(pods) > 0, r.Purge)
}

func (i *Installer) unconfigure(ctx context.Context, d *containerd, back *undo) error {
	i.useConfigOf(d)
	tree, err := conf.Read(i.host, i.o.Config)
	if err != nil {
		return err
	}
	changes := tree.Remove()
	h, live := d.live.Containerd.Runtimes[i.o.Handler]
	live = live && h.Path == i.programs.shim()
	if len(changes) == 0 && !live {
		return nil
	}
	if err := i.canRestart(); err != nil {
		return err
	}
	if err := i.write(changes, back); err != nil {
		return err
	}
	if err := i.validate(ctx, d, ""); err != nil {
		return err
	}
	if err := i.reload(ctx, d, back, func(now *containerd) error {
		if h, ok := now.live.Containerd.Runtimes[i.o.Handler]; ok && h.Path == i.programs.shim() {
			return fmt.Errorf("containerd %s still knows the runtime %s after its restart (a file other than those of %s defines it)", now.version, i.o.Handler, i.o.Config)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, c := range changes {
		if err := i.host.Remove(c.Name + backupSuffix); err != nil {
			i.log.Warn("backup stays", "error", err)
		}
	}
	return nil
}

// removePrograms leaves what running pods need.
func (i *Installer) removePrograms(pods, purge bool) error {
	keep := ""
	if pods {
		var err error
		// containerd executes the launcher through the link when such a pod ends.
		if keep, err = i.programs.current(); err != nil {
			return err
		}
	}
	busy, err := i.programs.dropUnused(keep)
	if err != nil {
		return fmt.Errorf("remove programs: %w", err)
	}
	if pods || len(busy) > 0 {
		i.log.Warn("programs that pods still use stay; uninstall again when they are gone", "folder", i.o.Dir)
		return nil
	}
	if err := i.programs.use(""); err != nil {
		return fmt.Errorf("remove programs: %w", err)
	}
	dir, err := i.host.At(i.programs.dir)
	if err != nil {
		return err
	}
	os.Remove(filepath.Join(dir, "versions"))
	os.Remove(dir) // only if nothing else is in it
	for _, name := range state {
		if !purge {
			break
		}
		at, err := i.host.At(name)
		if err == nil {
			err = os.RemoveAll(at)
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	i.log.Info("hachi is gone from this node")
	return nil
}
