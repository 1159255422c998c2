package launch

import (
	"errors"
	"hash/fnv"
	"path/filepath"
	"strings"
	"syscall"
)

// defaultSocketDir is where containerd's own shims put their sockets when nobody says otherwise.
const defaultSocketDir = "/run/containerd/s"

// maxSocketPath is what sockaddr_un (unix(7)) holds beside the final zero.
const maxSocketPath = 107

// SocketPath is where the server of a group listens: in dir (empty means /run/containerd/s), under a
// 128-bit hash of containerd's gRPC address, the namespace and the group. Only root can choose these, so
// the hash need not withstand an attacker. It fails if dir is longer than 74 bytes, because a socket's
// path has at most 107.
//
// A server that ends must remove its path before it closes its listener: as long as it listens, no
// launcher takes the path for abandoned and puts a new server's socket there.
func SocketPath(dir, address, namespace, group string) (string, error) {
	if dir == "" {
		dir = defaultSocketDir
	}
	h := fnv.New128a()
	_, _ = h.Write([]byte(address + "\x00" + namespace + "\x00" + group))
	const digits = "0123456789abcdef"
	path := []byte(filepath.Clean(dir) + "/")
	for _, b := range h.Sum(nil) {
		path = append(path, digits[b>>4], digits[b&15])
	}
	if len(path) > maxSocketPath {
		return "", fail("name socket", dir, errors.New("longer than 74 bytes"), "set a shorter socket_dir in containerd's config")
	}
	return string(path), nil
}

// state is what stands behind a socket's path.
type state int

const (
	absent state = iota // nothing
	dead                // a socket that nobody listens on
	live                // a server
)

// probe finds out who listens on a socket, without waiting.
func probe(path string) (state, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return absent, err
	}
	defer syscall.Close(fd)
	switch err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err {
	case nil, syscall.EAGAIN: // EAGAIN: its queue is full, so there is one
		return live, nil
	case syscall.ENOENT, syscall.ENOTDIR:
		return absent, nil
	case syscall.ECONNREFUSED:
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err == syscall.ENOENT {
			return absent, nil
		} else if err != nil {
			return absent, err
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
			return absent, syscall.ENOTSOCK
		}
		return dead, nil
	default:
		return absent, err
	}
}

// listen makes the socket at path and listens on it, with access for the owner only. If a server listens
// there already it returns -1; a socket that nobody listens on is replaced. The caller holds the path's
// lock, which makes sure that no other launcher is between looking and replacing.
func listen(path string) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fail("make socket", path, err, "")
	}
	// Linux gives the file the mode of the unbound socket, so there is no moment with a wider one.
	err = syscall.Fchmod(fd, 0o600)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		var s state
		if s, err = probe(path); s == live {
			syscall.Close(fd)
			return -1, nil
		}
		if err == nil && s == dead {
			err = syscall.Unlink(path)
		}
		if err == nil {
			err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
		}
	}
	if err == nil {
		if err = syscall.Listen(fd, 128); err != nil {
			_ = syscall.Unlink(path)
		}
	}
	if err != nil {
		syscall.Close(fd)
		return -1, fail("make socket", path, err, "")
	}
	return fd, nil
}

// removeDead removes the socket at path if nobody listens on it any more, and the lock of a launcher
// that was killed.
func removeDead(path string) error {
	s, err := probe(path)
	if err != nil || s == live || s == absent && syscall.Access(path+lockSuffix, 0) != nil {
		return err
	}
	l, err := lock(path)
	if err != nil {
		return err
	}
	defer l.unlock()
	if s, err = probe(path); err != nil || s != dead { // a new server may have come
		return err
	}
	return syscall.Unlink(path)
}

// scheme comes before the path in a socket's address.
const scheme = "unix://"

// socketOf returns the path in an address like unix:///run/containerd/s/1234.
func socketOf(address string) (string, bool) {
	return strings.CutPrefix(strings.TrimSpace(address), scheme)
}
