package redirect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"

	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/probe"
)

// ErrUnsupported is what this machine or process lacks: the text around it says what, and what to do.
var ErrUnsupported = errors.New("redirection is not possible here")

// Options of Open; the zero value works.
type Options struct {
	// Root is the directory of the pins, on a bpffs; default pin.DefaultRoot.
	Root string
}

// A Redirector attaches pods and answers endpoints. Its methods are safe for concurrent use, also from several
// processes on one root.
type Redirector struct {
	pins     *pin.Layout
	programs map[string]*ebpf.Program
	pods     *ebpf.Map // cgroup id -> outboundSettings
	rules    *ebpf.Map // outboundRule -> 1
	origins  *ebpf.Map // socket -> outboundOrigin
	flight   *ebpf.Map // outboundTuple -> outboundOrigin
	refused  *ebpf.Map // cgroup id -> count
}

// Every link of a pod is one of these; the order is that of their making: who is redirected can be answered for.
var (
	podHooks = []pin.Hook{
		{Name: "depart", Program: outboundProgHachiDepart, Attach: ebpf.AttachCGroupSockOps},
		{Name: "peer4", Program: outboundProgHachiPeer4, Attach: ebpf.AttachCgroupInet4GetPeername},
		{Name: "peer6", Program: outboundProgHachiPeer6, Attach: ebpf.AttachCgroupInet6GetPeername},
		{Name: "connect4", Program: outboundProgHachiConnect4, Attach: ebpf.AttachCGroupInet4Connect},
		{Name: "connect6", Program: outboundProgHachiConnect6, Attach: ebpf.AttachCGroupInet6Connect},
	}
	arriveHook   = pin.Hook{Name: "arrive", Program: outboundProgHachiArrive, Attach: ebpf.AttachCGroupSockOps}
	originalHook = pin.Hook{Name: "original", Program: outboundProgHachiOriginal, Attach: ebpf.AttachCGroupGetsockopt}
)

var outboundSet = pin.Set{
	Name:   "redirect",
	Object: _OutboundBytes,
	Spec:   loadOutbound,
	Hooks:  append([]pin.Hook{arriveHook, originalHook}, podHooks...),
}

// Open opens the node's redirection, and loads it first if this build was not loaded yet; unlike accounting that needs
// no kernel BTF and little memory. The error wraps [ErrUnsupported] where that is why. The caller closes the Redirector.
func Open(ctx context.Context, o Options) (*Redirector, error) {
	if o.Root == "" {
		o.Root = pin.DefaultRoot
	}
	if _, err := probe.Cgroup2(); err != nil {
		return nil, unsupported(err)
	}
	pins, err := pin.Make(o.Root)
	if err != nil {
		return nil, unsupported(err)
	}
	r := &Redirector{pins: pins, programs: map[string]*ebpf.Program{}}
	if err := r.open(); errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(r.Close(), r.load(ctx))
		if err == nil {
			err = r.open()
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open redirection: %w", err), r.Close())
		}
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("open redirection: %w", err), r.Close())
	}
	return r, nil
}

func (r *Redirector) load(ctx context.Context) error {
	unlock, err := r.pins.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.pins.Load(ctx, outboundSet); err != nil {
		return unsupported(err)
	}
	return nil
}

// unsupported marks what trying again does not mend.
func unsupported(err error) error {
	return fmt.Errorf("%w: %w (run \"hachi doctor\")", ErrUnsupported, err)
}

func (r *Redirector) open() error {
	for _, name := range []string{
		outboundProgHachiConnect4, outboundProgHachiConnect6, outboundProgHachiPeer4, outboundProgHachiPeer6, outboundProgHachiDepart,
		outboundProgHachiSkip4, outboundProgHachiSkip6, outboundProgHachiArrive, outboundProgHachiOriginal,
	} {
		p, err := r.pins.Program(outboundSet, name)
		if err != nil {
			return err
		}
		r.programs[name] = p
	}
	for name, m := range map[string]**ebpf.Map{
		outboundMapRedirectPods:    &r.pods,
		outboundMapRedirectRules:   &r.rules,
		outboundMapRedirectOrigins: &r.origins,
		outboundMapRedirectFlight:  &r.flight,
		outboundMapHachiRefused:    &r.refused,
	} {
		var err error
		if *m, err = ebpf.LoadPinnedMap(r.pins.Map(name), nil); err != nil {
			return fmt.Errorf("open map %s: %w", name, err)
		}
	}
	return nil
}

// Close closes descriptors. What is attached stays so.
func (r *Redirector) Close() error {
	var errs []error
	for name, p := range r.programs {
		errs = append(errs, p.Close())
		delete(r.programs, name)
	}
	for _, m := range []**ebpf.Map{&r.pods, &r.rules, &r.origins, &r.flight, &r.refused} {
		errs = append(errs, (*m).Close())
		*m = nil
	}
	return errors.Join(errs...)
}

// Refused returns how many connections from or to the pod were refused because no endpoint listened.
func (r *Redirector) Refused(id uint64) (uint64, error) {
	var n uint64
	if err := r.refused.Lookup(id, &n); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("read refused connections of cgroup %d: %w", id, err)
	}
	return n, nil
}
