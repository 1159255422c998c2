package net

import (
	"internal/poll"
	"sync"
	"syscall"
)

// firstInherited is the number of the first socket that LISTEN_FDS counts.
const firstInherited = 3

// inheritedListener is a listening socket that the host opened for the program before it started. It stays open
// when the program stops listening, so that it may start again.
type inheritedListener struct {
	sysfd int
	refs  int32 // of poll.SysFile; one is ours for ever

	inUse bool // guarded by inheritedMu
}

var (
	inheritedMu   sync.Mutex
	inheritedOnce sync.Once
	inherited     map[int]*inheritedListener // by port
)

// inherit returns the socket that the host opened for a port, or nil.
func inherit(net string, port int) *netFD {
	if port == 0 {
		return nil
	}
	inheritedOnce.Do(findInherited)
	inheritedMu.Lock()
	defer inheritedMu.Unlock()
	l := inherited[port]
	if l == nil || l.inUse {
		return nil
	}
	// The program may have closed the number and opened it as something else.
	if listens, e := hostOption(l.sysfd, levelSocket, optionAcceptconn); e != 0 || listens == 0 {
		return nil
	}
	if syscall.SetNonblock(l.sysfd, true) != nil {
		return nil
	}
	l.refs++
	fd := newPollFD(net, poll.FD{Sysfd: l.sysfd, SysFile: poll.SysFile{RefCountPtr: &l.refs}, IsStream: true, ZeroReadIsEOF: true})
	if fd.init() != nil {
		l.refs--
		return nil
	}
	fd.inherited, l.inUse = l, true
	fd.setAddr(fd.laddr, nil)
	return fd
}

func (l *inheritedListener) release() {
	inheritedMu.Lock()
	l.inUse = false
	inheritedMu.Unlock()
}

// findInherited reads LISTEN_FDS and LISTEN_FDNAMES, where hachi calls a socket tcp-PORT.
func findInherited() {
	inherited = map[int]*inheritedListener{}
	count, _ := syscall.Getenv("LISTEN_FDS")
	n, _, ok := dtoi(count)
	if !ok {
		return
	}
	names, _ := syscall.Getenv("LISTEN_FDNAMES")
	for i := 0; i < n && names != ""; i++ {
		name := names
		if j := indexByte(names, ':'); j >= 0 {
			name, names = names[:j], names[j+1:]
		} else {
			names = ""
		}
		if len(name) <= 4 || name[:4] != "tcp-" {
			continue
		}
		port, used, ok := dtoi(name[4:])
		if ok && used == len(name)-4 && inherited[port] == nil {
			inherited[port] = &inheritedListener{sysfd: firstInherited + i, refs: 1}
		}
	}
}

func indexByte(s string, b byte) int {
	for i := range len(s) {
		if s[i] == b {
			return i
		}
	}
	return -1
}
