package wait

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Events are conditions of a descriptor.
type Events uint8

// What to wait for: Read and Write. Hangup comes unasked.
const (
	Read Events = 1 << iota
	Write
	Hangup
)

// Handle is one descriptor's place in a poller.
type Handle struct {
	fd    int
	slot  int32
	armed uint32 // what epoll watches for; 0 means that epoll does not know the descriptor
	round uint64 // the last round that wanted the handle
	want  Events
	ready Events
}

// Add gives a descriptor a place; the kernel learns of it when it is first wanted. Call Remove before
// the descriptor is closed.
func (p *Poller) Add(fd int) *Handle {
	h := &Handle{fd: fd}
	if n := len(p.free); n > 0 {
		h.slot, p.free = p.free[n-1], p.free[:n-1]
		p.slots[h.slot] = h
		return h
	}
	h.slot = int32(len(p.slots))
	p.slots = append(p.slots, h)
	return h
}

// Remove takes a descriptor out.
func (p *Poller) Remove(h *Handle) {
	h.disarm(p)
	p.slots[h.slot] = nil
	p.free = append(p.free, h.slot)
}

// Want adds an interest to the present round. A descriptor that epoll cannot watch (a regular file, a
// directory, /dev/null) is ready at once, as poll(2) has it.
func (p *Poller) Want(h *Handle, e Events) error {
	if h.round != p.round {
		h.round, h.want, h.ready = p.round, 0, 0
	}
	h.want |= e
	var mask uint32
	if h.want&Read != 0 {
		mask |= unix.EPOLLIN
	}
	if h.want&Write != 0 {
		mask |= unix.EPOLLOUT
	}
	if mask == h.armed {
		return nil
	}
	op := unix.EPOLL_CTL_MOD
	if h.armed == 0 {
		op = unix.EPOLL_CTL_ADD
	}
	err := unix.EpollCtl(p.epfd, op, h.fd, &unix.EpollEvent{Events: mask, Fd: h.slot})
	switch err {
	case nil:
		h.armed = mask
	case unix.EPERM:
		if h.ready == 0 {
			p.ready++
		}
		h.ready = h.want
	default:
		return fmt.Errorf("wait: watch descriptor: %w", err)
	}
	return nil
}

// Ready is what the last wait found. It is empty for a handle that its round did not want.
func (h *Handle) Ready(p *Poller) Events {
	if h.round != p.round {
		return 0
	}
	return h.ready
}

// deliver notes an event. An event that nobody wants any more takes the descriptor out of epoll:
// interests end lazily, since most are wanted again in the next round.
func (h *Handle) deliver(p *Poller, got uint32) bool {
	if h.round != p.round {
		h.disarm(p)
		return false
	}
	var ready Events
	if got&unix.EPOLLIN != 0 {
		ready |= Read
	}
	if got&unix.EPOLLOUT != 0 {
		ready |= Write
	}
	if got&unix.EPOLLHUP != 0 {
		ready |= Hangup | h.want
	}
	if got&unix.EPOLLERR != 0 {
		ready |= h.want
	}
	h.ready = ready & (h.want | Hangup)
	return h.ready != 0
}

func (h *Handle) disarm(p *Poller) {
	if h.armed != 0 {
		// Fails only if the descriptor is closed already, which has taken it out.
		_ = unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, h.fd, nil)
		h.armed = 0
	}
}
