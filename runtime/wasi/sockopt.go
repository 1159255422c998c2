package wasi

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Levels of socket options. The names of levelSocket are the extension's own, those of the others Linux's.
const (
	levelSocket = 0
	levelTCP    = unix.IPPROTO_TCP
	levelIPv6   = unix.IPPROTO_IPV6
)

// Names of levelSocket.
const (
	optionReuseaddr = iota
	optionType
	optionError
	optionDontroute
	optionBroadcast
	optionSndbuf
	optionRcvbuf
	optionKeepalive
	optionOOBInline
	optionLinger
	optionRcvlowat
	optionRcvtimeo
	optionSndtimeo
	optionAcceptconn
	optionBindtodevice
)

// optionNodelay is TCP_NODELAY as wasi-go numbers it.
const optionNodelay = 0x100f

// numbers are the options that Linux has as plain numbers too, by level; the others are done by hand.
var numbers = map[uint32]map[uint32]int{
	levelSocket: {
		optionReuseaddr: unix.SO_REUSEADDR, optionDontroute: unix.SO_DONTROUTE, optionBroadcast: unix.SO_BROADCAST,
		optionSndbuf: unix.SO_SNDBUF, optionRcvbuf: unix.SO_RCVBUF, optionKeepalive: unix.SO_KEEPALIVE,
		optionOOBInline: unix.SO_OOBINLINE, optionRcvlowat: unix.SO_RCVLOWAT, optionAcceptconn: unix.SO_ACCEPTCONN,
	},
	levelTCP: {
		unix.TCP_NODELAY: unix.TCP_NODELAY, optionNodelay: unix.TCP_NODELAY, unix.TCP_CORK: unix.TCP_CORK,
		unix.TCP_KEEPIDLE: unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL: unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT: unix.TCP_KEEPCNT,
		unix.TCP_QUICKACK: unix.TCP_QUICKACK, unix.TCP_USER_TIMEOUT: unix.TCP_USER_TIMEOUT,
	},
	levelIPv6: {
		unix.IPV6_V6ONLY: unix.IPV6_V6ONLY, unix.IPV6_UNICAST_HOPS: unix.IPV6_UNICAST_HOPS,
		unix.IPV6_MULTICAST_HOPS: unix.IPV6_MULTICAST_HOPS, unix.IPV6_MULTICAST_LOOP: unix.IPV6_MULTICAST_LOOP,
	},
}

// linuxLevel is the number of a level of numbers.
func linuxLevel(level uint32) int {
	if level == levelSocket {
		return unix.SOL_SOCKET
	}
	return int(level)
}

// shortest is where a length stops to be a length: WasmEdge passes a pointer to it, other implementers
// of the extension the length itself, and no linker puts data this low.
const shortest = 64

func (s *System) sockGetsockopt(p []uint64) errno {
	d, e := s.socketWith(p[0], 0)
	if e != success {
		return e
	}
	size, sizeAt := uint32(p[4]), uint32(0)
	if size > shortest {
		b, ok := s.view(size, 4)
		if !ok {
			return eFault
		}
		sizeAt, size = size, binary.LittleEndian.Uint32(b)
	}
	value, ok := s.view(uint32(p[3]), size)
	if !ok {
		return eFault
	}
	n, e := s.getOption(d, uint32(p[1]), uint32(p[2]), value)
	if e == success && sizeAt != 0 {
		e = s.putU32(sizeAt, uint32(n))
	}
	return e
}

// getOption returns how many bytes of value it has used.
func (s *System) getOption(d *descriptor, level, name uint32, value []byte) (int, errno) {
	if option, ok := numbers[level][name]; ok {
		n, err := d.sock.Int(linuxLevel(level), option)
		return putNumber(value, n, err)
	}
	if level != levelSocket {
		return 0, fromLinux[unix.ENOPROTOOPT]
	}
	le := binary.LittleEndian
	switch name {
	case optionType:
		kind := socketDgram
		if d.sock.Stream() {
			kind = socketStream
		}
		return putNumber(value, kind, nil)
	case optionError:
		return putNumber(value, int(errnoOf(d.sock.Err())), nil)
	case optionLinger:
		t, err := d.sock.Linger()
		if err != nil || len(value) < 8 {
			return 0, errnoOf(errors.Join(err, shortValue(len(value) < 8)))
		}
		le.PutUint64(value, 0)
		if t >= 0 {
			le.PutUint32(value, 1)
			le.PutUint32(value[4:], uint32(t/time.Second))
		}
		return 8, success
	case optionRcvtimeo, optionSndtimeo:
		if len(value) < 16 {
			return 0, eInval
		}
		t := d.recvTimeout
		if name == optionSndtimeo {
			t = d.sendTimeout
		}
		le.PutUint64(value, uint64(t/time.Second))
		le.PutUint64(value[8:], uint64(t%time.Second/time.Microsecond))
		return 16, success
	}
	return 0, fromLinux[unix.ENOPROTOOPT]
}

func putNumber(value []byte, n int, err error) (int, errno) {
	if err != nil {
		return 0, errnoOf(err)
	}
	if len(value) < 4 {
		return 0, eInval
	}
	binary.LittleEndian.PutUint32(value, uint32(n))
	return 4, success
}

func shortValue(short bool) error {
	if short {
		return unix.EINVAL
	}
	return nil
}

func (s *System) sockSetsockopt(p []uint64) errno {
	d, e := s.socketWith(p[0], 0)
	if e != success {
		return e
	}
	value, ok := s.view(uint32(p[3]), uint32(p[4]))
	if !ok {
		return eFault
	}
	level, name := uint32(p[1]), uint32(p[2])
	switch {
	case level == levelSocket && name == optionBindtodevice:
		if len(value) >= unix.IFNAMSIZ {
			return eInval
		}
		return errnoOf(d.sock.BindToDevice(string(value)))
	case len(value) < 4:
		return eInval
	}
	n := binary.LittleEndian.Uint32(value)
	if option, ok := numbers[level][name]; ok {
		return errnoOf(d.sock.SetInt(linuxLevel(level), option, int(int32(n))))
	}
	if level != levelSocket {
		return fromLinux[unix.ENOPROTOOPT]
	}
	switch name {
	case optionLinger:
		if len(value) < 8 {
			return eInval
		}
		t := time.Duration(-1)
		if n != 0 {
			t = time.Duration(binary.LittleEndian.Uint32(value[4:])) * time.Second
		}
		return errnoOf(d.sock.SetLinger(t))
	case optionRcvtimeo, optionSndtimeo:
		t, e := timeval(value)
		if e != success {
			return e
		}
		if name == optionRcvtimeo {
			d.recvTimeout = t
		} else {
			d.sendTimeout = t
		}
		return success
	}
	return fromLinux[unix.ENOPROTOOPT]
}

// timeval reads seconds and microseconds of 64 bits each; 0 means for ever.
func timeval(b []byte) (time.Duration, errno) {
	const most = uint64(365 * 24 * time.Hour / time.Second)
	if len(b) < 16 {
		return 0, eInval
	}
	sec, usec := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if sec > most || usec >= 1e6 {
		return 0, eInval
	}
	return time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond, success
}
