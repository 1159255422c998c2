// Package observe is accounting and flows of containers, by their cgroup2 directories, in one handle.
package observe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/probe"
)

// ErrUnsupported is what this machine or process lacks: the text around it says what, and what to do. A pod runs
// without being observed.
var ErrUnsupported = errors.New("eBPF accounting is not possible here")

// patience bounds the wait for another process that attaches to or detaches from the same cgroup, which takes a
// millisecond, or loads or collects.
const patience = 10 * time.Second

// Options of Open; the zero value works.
type Options struct {
	// Root is the directory of the pins. Default pin.DefaultRoot.
	Root string
	// Loader makes Load run in another process, which spares this one 10 MB of heap. Default: Load in this process.
	Loader func(context.Context) error
}

// Observer attaches and reads. It may be used concurrently, and beside others in other processes.
type Observer struct {
	layout  *pin.Layout
	account *account.Account

	mu    sync.Mutex
	flows *flow.Flows // guarded by mu; nil until first used
}

// Open makes sure that the programs are loaded and opens what is pinned. Only the first Open after a boot, or after an
// upgrade of hachi, loads. The caller closes the Observer.
func Open(ctx context.Context, o Options) (*Observer, error) {
	if o.Root == "" {
		o.Root = pin.DefaultRoot
	}
	l, err := pin.Open(o.Root)
	if err != nil || !l.Tried(account.Set) || !l.Tried(flow.Set) {
		load := o.Loader
		if load == nil {
			load = func(ctx context.Context) error { return Load(ctx, o.Root) }
		}
		if err := load(ctx); err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrUnsupported) { // another process's error is only text
				err = fmt.Errorf("%w: %w", ErrUnsupported, err)
			}
			return nil, err
		}
	}
	return OpenExisting(o.Root)
}

// OpenExisting is for those who only read: it never loads anything. fs.ErrNotExist if nobody ever did. An empty root
// is pin.DefaultRoot.
func OpenExisting(root string) (*Observer, error) {
	if root == "" {
		root = pin.DefaultRoot
	}
	l, err := pin.Open(root)
	if err != nil {
		return nil, err
	}
	a, err := account.Open(l)
	if err != nil {
		return nil, err
	}
	return &Observer{layout: l, account: a}, nil
}

// Load loads and pins this build's programs below root, and hands running pods over to them, unless that was done
// before. It is what Options.Loader runs, in the end.
func Load(ctx context.Context, root string) error {
	if root == "" {
		root = pin.DefaultRoot
	}
	if err := probe.Privilege(); err != nil {
		return fmt.Errorf("%w: %w (run as root)", ErrUnsupported, err)
	}
	if _, err := probe.Cgroup2(); err != nil {
		return unsupported(err)
	}
	l, err := pin.Make(root)
	if err != nil {
		return unsupported(err)
	}
	unlock, err := l.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.Load(ctx, account.Set); err != nil {
		return unsupported(err)
	}
	// Accounting goes on without flows.
	if err := l.Load(ctx, flow.Set); err != nil {
		slog.WarnContext(ctx, "flows are not recorded", "error", err)
		return l.GiveUp(flow.Set)
	}
	return nil
}

// unsupported marks what trying again does not mend.
func unsupported(err error) error {
	return fmt.Errorf("%w: %w (run \"hachi doctor\")", ErrUnsupported, err)
}

// Attach counts and records, from now on, what the sockets of a cgroup2 directory do. The id it returns is the
// directory's inode. Attaching what is attached changes nothing; links that a killed owner left are adopted with their
// counts. After an error nothing is attached that was not before.
func (o *Observer) Attach(cgroup2dir string) (id uint64, err error) {
	cgroup, err := os.Open(cgroup2dir)
	if err != nil {
		return 0, fmt.Errorf("attach accounting: %w", err)
	}
	defer cgroup.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(cgroup.Fd()), &st); err != nil {
		return 0, fmt.Errorf("attach accounting: %s: %w", cgroup2dir, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(cgroup.Fd()), &fs); err != nil {
		return 0, fmt.Errorf("attach accounting: %s: %w", cgroup2dir, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("attach accounting: %s: not a cgroup2 directory (of a container on a host with both, it lies below /sys/fs/cgroup/unified)", cgroup2dir)
	}
	displaced, err := pin.Displaced(cgroup, account.Set.Hooks)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.account.Attach(ctx, st.Ino, cgroup); err != nil {
		return 0, err
	}
	for _, f := range displaced {
		slog.Warn("a program of another agent no longer runs for this cgroup", "cgroup", cgroup2dir, "program", f.String())
	}
	return st.Ino, nil
}

// Read returns the counters of a cgroup that is attached; fs.ErrNotExist if it is not, or was removed.
func (o *Observer) Read(id uint64) (account.Counters, error) { return o.account.Read(id) }

// Detach ends it and returns the last reading. It must come before the cgroup is removed, for the counters go with the
// cgroup. fs.ErrNotExist if it is not attached.
func (o *Observer) Detach(id uint64) (account.Counters, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return o.account.Detach(ctx, id)
}

// Collect removes what pods left that ended without Detach: their cgroup is gone, or alive, if not nil, does not know it.
func (o *Observer) Collect(alive func(id uint64) bool) (removed []uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	unlock, err := o.layout.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	ids, err := o.layout.Pods()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range ids {
		dead := alive != nil && !alive(id)
		if !dead {
			if dead, err = o.layout.Gone(id); err != nil {
				if !errors.Is(err, fs.ErrNotExist) { // detached meanwhile
					errs = append(errs, err)
				}
				continue
			}
		}
		if !dead {
			continue
		}
		if err := o.layout.Remove(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, id)
	}
	return removed, errors.Join(errs...)
}

// Recent returns the newest flow records of the node, oldest first, without consuming them. Open connections that were
// not recorded for ten seconds are recorded first.
func (o *Observer) Recent() ([]flow.Record, error) {
	f, err := o.opened()
	if err != nil {
		return nil, err
	}
	return f.Recent()
}

// Follow calls f with each flow record from now on, until ctx ends; then it returns nil. One process of the node can:
// the error is pin.ErrClaimed in another.
func (o *Observer) Follow(ctx context.Context, f func(flow.Record)) error {
	flows, err := o.opened()
	if err != nil {
		return err
	}
	return flows.Follow(ctx, f)
}

// Lost counts the flow records that nobody will see.
func (o *Observer) Lost() (flow.Losses, error) {
	f, err := o.opened()
	if err != nil {
		return flow.Losses{}, err
	}
	return f.Lost()
}

// opened opens the flows' pins at first use: who only attaches needs none of them.
func (o *Observer) opened() (*flow.Flows, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flows != nil {
		return o.flows, nil
	}
	f, err := flow.Open(o.layout)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: flows: this kernel did not take the programs (they need its BTF; run \"hachi doctor\")", ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	o.flows = f
	return f, nil
}

// Close gives the descriptors back. What is pinned stays.
func (o *Observer) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.account.Close()
	if o.flows != nil {
		err = errors.Join(err, o.flows.Close())
		o.flows = nil
	}
	return err
}
