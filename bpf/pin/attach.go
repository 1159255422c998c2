package pin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Attach links programs[i] as hooks[i] to target, an open cgroup2 directory or network namespace, and pins the links
// below the pod's id: all of them or, after an error, none that were not there before. Links that a killed owner left
// are adopted, given their program again, and kept. Then after, if not nil, runs before others can attach or detach;
// adopted is true if at least one link was there before.
func (l *Layout) Attach(ctx context.Context, id uint64, target *os.File, hooks []Hook, programs []*ebpf.Program, after func(adopted bool) error) (err error) {
	unlock, err := l.lockPod(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	adopted := false
	var made []Hook
	defer func() {
		if err != nil {
			err = errors.Join(err, l.detach(id, made))
		}
	}()
	for i, h := range hooks {
		had, err := l.ensure(l.Link(id, h.Name), target, h, programs[i])
		if err != nil {
			return fmt.Errorf("attach %s: %s: %w", h.Name, target.Name(), collision(target.Name(), h, err))
		}
		if had {
			adopted = true
		} else {
			made = append(made, h)
		}
	}
	if after == nil {
		return nil
	}
	return after(adopted)
}

func (l *Layout) ensure(path string, target *os.File, h Hook, p *ebpf.Program) (had bool, err error) {
	old, err := link.LoadPinnedLink(path, nil)
	if err == nil {
		defer old.Close()
		if err = old.Update(p); err == nil {
			return true, nil
		}
		if !severed(err) {
			return false, err
		}
		// Its cgroup or namespace is gone, and target is another one with the same id.
		if err := old.Unpin(); err != nil {
			return false, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	made, err := link.AttachRawLink(link.RawLinkOptions{Target: int(target.Fd()), Program: p, Attach: h.Attach})
	if err != nil {
		return false, err
	}
	defer made.Close()
	return false, made.Pin(path)
}

// Detach ends the pod's links of these hooks, runs last, if not nil, now that nothing runs any more, and removes the
// pins. fs.ErrNotExist if there were none.
func (l *Layout) Detach(ctx context.Context, id uint64, hooks []Hook, last func() error) error {
	if _, err := os.Stat(l.pod(id)); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	unlock, err := l.lockPod(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	var open []link.Link
	defer func() {
		for _, ln := range open {
			ln.Close()
		}
	}()
	for _, h := range hooks {
		ln, err := link.LoadPinnedLink(l.Link(id, h.Name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("detach %s: cgroup %d: %w", h.Name, id, err)
		}
		open = append(open, ln)
		if err := ln.Detach(); err != nil {
			return fmt.Errorf("detach %s: cgroup %d: %w", h.Name, id, err)
		}
	}
	if len(open) == 0 {
		os.Remove(l.pod(id))
		return fmt.Errorf("detach: cgroup %d: no links: %w", id, fs.ErrNotExist)
	}
	if last != nil {
		err = last()
	}
	return errors.Join(err, l.removePins(id, hooks))
}

// detach ends and unpins links that may be there.
func (l *Layout) detach(id uint64, hooks []Hook) error {
	var errs []error
	for _, h := range hooks {
		errs = append(errs, end(l.Link(id, h.Name)))
	}
	return errors.Join(append(errs, l.removePins(id, hooks))...)
}

// removePins unpins links that have ended, and removes the pod's directory if nothing is left in it.
func (l *Layout) removePins(id uint64, hooks []Hook) error {
	var errs []error
	for _, h := range hooks {
		errs = append(errs, unpin(l.Link(id, h.Name)))
	}
	if err := os.Remove(l.pod(id)); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("remove pin directory: %w", err))
	}
	return errors.Join(errs...)
}

// Remove ends and unpins everything of a pod, whoever attached it.
func (l *Layout) Remove(ctx context.Context, id uint64) error {
	unlock, err := l.lockPod(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	_ = filepath.WalkDir(l.pod(id), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			errs = append(errs, end(path), unpin(path))
		}
		return nil
	})
	return errors.Join(append(errs, os.RemoveAll(l.pod(id)))...)
}

// end detaches a pinned link, for the kernel frees it some time after its last pin went. What is pinned there may also be
// a map, or nothing.
func end(path string) error {
	ln, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil
	}
	defer ln.Close()
	if err := ln.Detach(); err != nil && !errors.Is(err, link.ErrNotSupported) {
		return fmt.Errorf("detach %s: %w", path, err)
	}
	return nil
}

func unpin(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// Gone reports whether what the pod's links are attached to is gone: the cgroup was removed and its last socket
// closed, or the network namespace ended. A directory without links is gone too.
func (l *Layout) Gone(id uint64) (bool, error) {
	entries, err := os.ReadDir(l.pod(id))
	if err != nil {
		return false, fmt.Errorf("look for links: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		ln, err := link.LoadPinnedLink(filepath.Join(l.pod(id), e.Name()), nil)
		if err != nil {
			continue // a map, or a link that is being removed
		}
		info, err := ln.Info()
		ln.Close()
		if err != nil {
			return false, fmt.Errorf("look at link %s of cgroup %d: %w", e.Name(), id, err)
		}
		if cg := info.Cgroup(); cg != nil && cg.CgroupId != 0 {
			return false, nil
		}
		if ns := info.NetNs(); ns != nil && ns.NetnsInode != 0 {
			return false, nil
		}
	}
	return true, nil
}

// severed is the kernel's answer to an update of a link whose cgroup or namespace is gone.
func severed(err error) bool { return errors.Is(err, unix.ENOLINK) }
