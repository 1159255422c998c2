package redirect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/pin"
)

var inboundHook = pin.Hook{Name: "inbound", Program: inboundProgHachiInbound, Attach: ebpf.AttachSkLookup}

// The maps of a pod's own copy of the program are pinned beside its link.
var ownMaps = []string{inboundMapInboundPod, inboundMapInboundListeners}

// A process of many pods parses the object once.
var inboundSpec = sync.OnceValues(loadInbound)

func (r *Redirector) attachInbound(ctx context.Context, id uint64, netns *os.File, c Config) error {
	if len(c.Inbound.Ports) == 0 {
		return r.detachInbound(ctx, id)
	}
	cookie, err := netnsCookie(netns)
	if err != nil {
		return err
	}
	rules := c.inboundRules(id)
	set := inboundInbound{Pod: id, Netns: cookie, Rules: rules.kinds}
	if c.FailOpen {
		set.Open = 1
	}
	own, err := r.inboundOf(id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer closeMaps(own)
	spec, err := inboundSpec()
	if err != nil {
		return err
	}
	replace := map[string]*ebpf.Map{inboundMapRedirectRules: r.rules, inboundMapHachiRefused: r.refused}
	maps.Copy(replace, own)
	loaded, err := ebpf.NewCollectionWithOptions(spec.Copy(), ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return fmt.Errorf("load inbound: %w", err)
	}
	defer loaded.Close()
	hooks, programs := []pin.Hook{inboundHook}, []*ebpf.Program{loaded.Programs[inboundProgHachiInbound]}
	return r.pins.Attach(ctx, id, netns, hooks, programs, func(bool) error {
		if len(own) == 0 {
			if err := r.pinInboundMaps(id, loaded.Maps); err != nil {
				return err
			}
		}
		return errors.Join(r.addRules(rules), loaded.Maps[inboundMapInboundPod].Put(uint32(0), set), r.keepRules(id, inboundKinds, rules))
	})
}

func (r *Redirector) pinInboundMaps(id uint64, loaded map[string]*ebpf.Map) error {
	// An owner may have died between two pins.
	if err := r.removeInboundMaps(id); err != nil {
		return err
	}
	for _, name := range ownMaps {
		if err := loaded[name].Pin(r.pins.Link(id, name)); err != nil {
			return errors.Join(fmt.Errorf("pin map %s: %w", name, err), r.removeInboundMaps(id))
		}
	}
	return nil
}

// inboundOf opens the pod's own maps; fs.ErrNotExist if it has none.
func (r *Redirector) inboundOf(id uint64) (map[string]*ebpf.Map, error) {
	own := map[string]*ebpf.Map{}
	for _, name := range ownMaps {
		m, err := ebpf.LoadPinnedMap(r.pins.Link(id, name), nil)
		if err != nil {
			closeMaps(own)
			return nil, fmt.Errorf("open inbound of cgroup %d: %w", id, err)
		}
		own[name] = m
	}
	return own, nil
}

func closeMaps(all map[string]*ebpf.Map) {
	for _, m := range all {
		m.Close()
	}
}

func (r *Redirector) removeInboundMaps(id uint64) error {
	var errs []error
	for _, name := range ownMaps {
		if err := os.Remove(r.pins.Link(id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unpin: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (r *Redirector) detachInbound(ctx context.Context, id uint64) error {
	err := r.pins.Detach(ctx, id, []pin.Hook{inboundHook}, func() error {
		return errors.Join(r.removeInboundMaps(id), r.keepRules(id, inboundKinds, newRules()))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// SetInbound gives connections to the pod to these listeners, one per address family, from the next one on; a family
// without one refuses, or with FailOpen reaches the app. To be called by each new endpoint: a listener that is closed
// leaves by itself. It must have been made in the pod's network namespace and not for Multipath TCP; [Listen] does both.
// id is that of the first cgroup.
func (r *Redirector) SetInbound(id uint64, listeners ...*net.TCPListener) error {
	own, err := r.inboundOf(id)
	if err != nil {
		return err
	}
	defer closeMaps(own)
	var set inboundInbound
	if err := own[inboundMapInboundPod].Lookup(uint32(0), &set); err != nil {
		return fmt.Errorf("read inbound settings of cgroup %d: %w", id, err)
	}
	for _, l := range listeners {
		if err := setListener(own[inboundMapInboundListeners], set.Netns, l); err != nil {
			return fmt.Errorf("set inbound listener %s: %w", l.Addr(), err)
		}
	}
	return nil
}

func setListener(slots *ebpf.Map, netns uint64, l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = setSocket(slots, netns, int(fd), l.Addr().(*net.TCPAddr).IP) })
	return errors.Join(err, failed)
}

func setSocket(slots *ebpf.Map, netns uint64, fd int, on net.IP) error {
	const v4, v6 = uint32(0), uint32(1)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return err
	}
	if cookie != netns {
		return errors.New("made in another network namespace than the pod's (connections would time out; make it with redirect.Listen)")
	}
	families := []uint32{v6}
	if on.To4() != nil {
		families = []uint32{v4}
	} else if on.IsUnspecified() {
		// [::] also takes IPv4, unless it was told not to.
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return err
		}
		if only == 0 {
			families = []uint32{v4, v6}
		}
	}
	for _, slot := range families {
		err := slots.Put(slot, uint64(fd))
		if errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("a Multipath TCP socket (make it with redirect.Listen, or call SetMultipathTCP(false)): %w", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
