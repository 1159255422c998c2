package redirect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/pin"
)

// ErrNotRedirected says that nobody redirected a connection: somebody dialled the endpoint itself. Refuse it, for where
// should it go.
var ErrNotRedirected = errors.New("not a redirected connection")

// AttachEndpoint lets sockets that are accepted in an endpoint's cgroup know their original destination. The cgroup must
// not be a pod's: its connections would come back to it. Several endpoints may share a cgroup; with sockopt its
// sockets also answer SO_ORIGINAL_DST, as iptables would have them do, at a price for every getsockopt in it.
// [Redirector.OriginalDst] works without too, and reads a little slower.
func (r *Redirector) AttachEndpoint(ctx context.Context, cgroup string, sockopt bool) (id uint64, err error) {
	if id, err = ID(cgroup); err != nil {
		return 0, fmt.Errorf("attach endpoint: %w", err)
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return 0, fmt.Errorf("attach endpoint: %w", err)
	}
	defer dir.Close()
	hooks := []pin.Hook{arriveHook}
	if sockopt {
		hooks = append(hooks, originalHook)
	}
	if err := r.pins.Attach(ctx, id, dir, hooks, r.hookPrograms(hooks), nil); err != nil {
		return 0, fmt.Errorf("attach endpoint: %w", err)
	}
	return id, nil
}

// DetachEndpoint ends what AttachEndpoint began; fs.ErrNotExist if it did not.
func (r *Redirector) DetachEndpoint(ctx context.Context, id uint64) error {
	if err := r.pins.Detach(ctx, id, []pin.Hook{arriveHook, originalHook}, nil); err != nil {
		return fmt.Errorf("detach endpoint: %w", err)
	}
	return nil
}

// OriginalDst returns where the client of an accepted connection wanted to go, an IPv4 address also if it asked for a
// mapped one. It wraps [ErrNotRedirected] if the client asked for the endpoint itself.
func (r *Redirector) OriginalDst(c net.Conn) (netip.AddrPort, error) {
	o, err := r.origin(c)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination of %s: %w", c.RemoteAddr(), err)
	}
	return o.addrPort(), nil
}

func (r *Redirector) origin(c net.Conn) (o outboundOrigin, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return o, fmt.Errorf("%T has no socket", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return o, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = r.origins.Lookup(int32(fd), &o)
		if errors.Is(failed, ebpf.ErrKeyNotExist) {
			o, failed = r.inFlight(int(fd), c)
		}
	})
	return o, errors.Join(err, failed)
}

// inFlight is for an endpoint whose cgroup has no program. The row must go, or a later connection from the same port to
// the endpoint itself would be taken for this one.
func (r *Redirector) inFlight(fd int, c net.Conn) (o outboundOrigin, err error) {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	local, okLocal := c.LocalAddr().(*net.TCPAddr)
	if !ok || !okLocal {
		return o, ErrNotRedirected
	}
	key := outboundTuple{Family: unix.AF_INET, SourcePort: uint16(remote.Port), Port: uint16(local.Port)}
	if key.Netns, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		return o, fmt.Errorf("read network namespace cookie: %w", err)
	}
	source := remote.AddrPort().Addr().Unmap()
	if source.Is6() {
		key.Family = unix.AF_INET6
	}
	var raw [16]byte
	copy(raw[:], source.AsSlice())
	for i := range key.Source {
		key.Source[i] = binary.NativeEndian.Uint32(raw[4*i:])
	}
	err = r.flight.LookupAndDelete(key, &o)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = ErrNotRedirected
	}
	return o, err
}

func (o outboundOrigin) addrPort() netip.AddrPort {
	var raw [16]byte
	for i, word := range o.Addr {
		binary.NativeEndian.PutUint32(raw[4*i:], word)
	}
	addr := netip.AddrFrom16(raw)
	if o.Family == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(raw[:4]))
	}
	port := binary.NativeEndian.AppendUint16(nil, o.Port)
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
}
