package redirect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/pin"
)

// A Pod is what shares one endpoint.
type Pod struct {
	// Cgroups are the cgroup2 directories whose connections are redirected, each with all below it: one for each
	// container, or the pod's own. Connections to the pod are counted as the first one's.
	Cgroups []string
	// Netns is the pod's network namespace; nil leaves connections to the pod as they are.
	Netns  *os.File
	Config Config
}

// ID is what the kernel calls a cgroup: the inode of its directory.
func ID(cgroup string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(cgroup, &st); err != nil {
		return 0, fmt.Errorf("find cgroup: %s: %w", cgroup, err)
	}
	var fsys unix.Statfs_t
	if err := unix.Statfs(cgroup, &fsys); err != nil {
		return 0, fmt.Errorf("find cgroup: %s: %w", cgroup, err)
	}
	if fsys.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("find cgroup: %s: not a cgroup2 directory", cgroup)
	}
	return st.Ino, nil
}

// Attach redirects the pod from its next connect on, and returns the ids of its cgroups in their order: all is attached
// or, after an error, nothing that was not before. It may be called again, with other settings, with more cgroups, or by
// another process that takes over links whose owner is gone; at no moment in between a connect goes unredirected.
func (r *Redirector) Attach(ctx context.Context, p Pod) (ids []uint64, err error) {
	if err := p.Config.Validate(); err != nil {
		return nil, err
	}
	if len(p.Cgroups) == 0 {
		return nil, errors.New("attach redirection: no cgroup")
	}
	var made []uint64
	defer func() {
		if err != nil {
			// The caller's context may be why it failed.
			for _, id := range made {
				err = errors.Join(err, r.detach(context.WithoutCancel(ctx), id))
			}
		}
	}()
	for _, dir := range p.Cgroups {
		id, err := ID(dir)
		if err != nil {
			return nil, fmt.Errorf("attach redirection: %w", err)
		}
		ids = append(ids, id)
		adopted, err := r.attachOutbound(ctx, id, dir, p.Config)
		if err != nil {
			return nil, fmt.Errorf("attach redirection: %w", err)
		}
		if !adopted {
			made = append(made, id)
		}
	}
	if p.Netns != nil {
		if err := r.attachInbound(ctx, ids[0], p.Netns, p.Config); err != nil {
			return nil, fmt.Errorf("attach redirection: %w", err)
		}
	}
	return ids, nil
}

func (r *Redirector) attachOutbound(ctx context.Context, id uint64, path string, c Config) (adopted bool, err error) {
	dir, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	displaced, err := pin.Displaced(dir, podHooks)
	if err != nil {
		return false, err
	}
	for _, f := range displaced {
		slog.WarnContext(ctx, "a program of another agent no longer runs for this cgroup", "cgroup", path, "program", f.String())
	}
	rules := c.outboundRules(id)
	set := outboundSettings{Pod: id, Mark: c.Outbound.SkipMark, Rules: rules.kinds, Port: c.Outbound.Port}
	if c.FailOpen {
		set.Open = 1
	}
	err = r.pins.Attach(ctx, id, dir, podHooks, r.hookPrograms(podHooks), func(had bool) error {
		adopted = had
		// In an order in which an exception is there as a whole or not at all. Without any settings yet, the programs
		// refuse.
		return errors.Join(r.addRules(rules), r.pods.Put(id, set), r.keepRules(id, outboundKinds, rules))
	})
	if err != nil {
		return adopted, err
	}
	if err := r.attachSkips(ctx, id, c.Outbound.SkipCgroups); err != nil {
		if !adopted {
			err = errors.Join(err, r.detach(context.WithoutCancel(ctx), id))
		}
		return adopted, err
	}
	return adopted, nil
}

// skipHooks hang on a cgroup below the pod's, and are pinned as the pod's.
func skipHooks(skip uint64) []pin.Hook {
	return []pin.Hook{
		{Name: fmt.Sprintf("skip4-%d", skip), Program: outboundProgHachiSkip4, Attach: ebpf.AttachCGroupInet4Connect},
		{Name: fmt.Sprintf("skip6-%d", skip), Program: outboundProgHachiSkip6, Attach: ebpf.AttachCGroupInet6Connect},
	}
}

func (r *Redirector) attachSkips(ctx context.Context, id uint64, cgroups []string) error {
	stale, err := r.pinnedSkips(id)
	if err != nil {
		return err
	}
	for _, path := range cgroups {
		skip, err := ID(path)
		if err != nil {
			return err
		}
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		hooks := skipHooks(skip)
		err = r.pins.Attach(ctx, id, dir, hooks, r.hookPrograms(hooks), nil)
		dir.Close()
		if err != nil {
			return err
		}
		delete(stale, skip)
	}
	for skip := range stale {
		if err := r.pins.Detach(ctx, id, skipHooks(skip), nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *Redirector) pinnedSkips(id uint64) (map[uint64]struct{}, error) {
	entries, err := os.ReadDir(filepath.Dir(r.pins.Link(id, "x")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list links of cgroup %d: %w", id, err)
	}
	skips := map[uint64]struct{}{}
	for _, e := range entries {
		var family int
		var skip uint64
		if _, err := fmt.Sscanf(e.Name(), "skip%d-%d", &family, &skip); err == nil && strings.HasPrefix(e.Name(), "skip") {
			skips[skip] = struct{}{}
		}
	}
	return skips, nil
}

func (r *Redirector) hookPrograms(hooks []pin.Hook) []*ebpf.Program {
	programs := make([]*ebpf.Program, len(hooks))
	for i, h := range hooks {
		programs[i] = r.programs[h.Program]
	}
	return programs
}

// Detach ends the redirection of cgroups, also of ones that are gone: connections that are being made go direct from
// then on, so stop the pod first. fs.ErrNotExist if one was not attached.
func (r *Redirector) Detach(ctx context.Context, ids ...uint64) error {
	var errs []error
	for _, id := range ids {
		if err := r.detach(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("detach redirection: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (r *Redirector) detach(ctx context.Context, id uint64) error {
	// Backwards: who is no longer redirected needs no answers.
	hooks := []pin.Hook{inboundHook}
	for _, h := range slices.Backward(podHooks) {
		hooks = append(hooks, h)
	}
	skips, err := r.pinnedSkips(id)
	if err != nil {
		return err
	}
	for skip := range skips {
		hooks = append(hooks, skipHooks(skip)...)
	}
	return r.pins.Detach(ctx, id, hooks, func() error {
		return errors.Join(r.removeInboundMaps(id), r.keepRules(id, outboundKinds|inboundKinds, newRules()))
	})
}

// Collect detaches the cgroups that do not exist any more, or that alive, if not nil, does not know, and returns their
// ids. It is for the start of an owner: what a killed one left.
func (r *Redirector) Collect(ctx context.Context, alive func(id uint64) bool) (removed []uint64, err error) {
	// Before the pods: a pod that comes meanwhile has its directory before its rules.
	known, err := r.knownPods()
	if err != nil {
		return nil, fmt.Errorf("collect redirection: %w", err)
	}
	all, err := r.pins.Pods()
	if err != nil {
		return nil, fmt.Errorf("collect redirection: %w", err)
	}
	var errs []error
	for _, id := range all {
		gone, err := r.pins.Gone(id)
		if errors.Is(err, fs.ErrNotExist) || (err == nil && !gone && (alive == nil || alive(id))) {
			continue
		}
		if err == nil {
			err = r.detach(ctx, id)
		}
		switch {
		case err == nil:
			removed = append(removed, id)
		case !errors.Is(err, fs.ErrNotExist): // others' links, or another's Collect
			errs = append(errs, fmt.Errorf("collect redirection: %w", err))
		}
	}
	for id := range known {
		if !slices.Contains(all, id) || slices.Contains(removed, id) {
			errs = append(errs, r.forget(id))
		}
	}
	return removed, errors.Join(errs...)
}

// knownPods are those with rules or refusals, attached or not.
func (r *Redirector) knownPods() (map[uint64]struct{}, error) {
	known := map[uint64]struct{}{}
	var (
		key   outboundRule
		id, n uint64
		value uint32
	)
	rules := r.rules.Iterate()
	for rules.Next(&key, &value) {
		known[key.Pod] = struct{}{}
	}
	refused := r.refused.Iterate()
	for refused.Next(&id, &n) {
		known[id] = struct{}{}
	}
	return known, errors.Join(rules.Err(), refused.Err())
}

func (r *Redirector) forget(id uint64) error {
	err := r.refused.Delete(id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	return errors.Join(err, r.keepRules(id, outboundKinds|inboundKinds, newRules()))
}
