package sock

import (
	"golang.org/x/sys/unix"
)

// maxVectors is Linux's IOV_MAX; what exceeds it is left for the next call.
const maxVectors = 1024

// Recv receives into the buffers; flags are unix.MSG_PEEK and MSG_WAITALL. truncated tells that a datagram
// was longer. It returns EAGAIN instead of blocking.
func (s *Socket) Recv(bufs [][]byte, flags int) (n int, from unix.Sockaddr, truncated bool, err error) {
	// One buffer is the usual case, and WAITALL without blocking only peeks at the wrong amount.
	flags = flags&^unix.MSG_WAITALL | unix.MSG_DONTWAIT
	for {
		var got int
		n, _, got, from, err = unix.RecvmsgBuffers(s.fd, clip(bufs), nil, flags)
		if err != unix.EINTR {
			return max(n, 0), from, got&unix.MSG_TRUNC != 0, err
		}
	}
}

// Send sends what fits now, to an address if one is given. It returns EAGAIN instead of blocking, and
// never raises SIGPIPE.
func (s *Socket) Send(bufs [][]byte, to unix.Sockaddr) (int, error) {
	for {
		n, err := unix.SendmsgBuffers(s.fd, clip(bufs), nil, to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// Available is how many bytes can be received now.
func (s *Socket) Available() uint64 {
	if s.listen {
		return 0
	}
	n, err := unix.IoctlGetInt(s.fd, unix.TIOCINQ)
	if err != nil || n < 0 {
		return 0
	}
	return uint64(n)
}

func clip(bufs [][]byte) [][]byte {
	return bufs[:min(len(bufs), maxVectors)]
}
