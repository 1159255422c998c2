package launch

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// socketLock lets one launcher at a time work on a socket's path.
type socketLock struct {
	fd   int
	path string
}

const lockSuffix = ".lock"

// lock waits for the lock of a socket's path. It is a file beside the socket that exists only while
// someone holds or wants it; the kernel frees it when the holder dies. The directory is made if needed.
func lock(socket string) (*socketLock, error) {
	path := socket + lockSuffix
	const flags = syscall.O_CREAT | syscall.O_RDWR | syscall.O_CLOEXEC | syscall.O_NOFOLLOW
	for {
		fd, err := syscall.Open(path, flags, 0o600)
		if errors.Is(err, syscall.ENOENT) {
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				fd, err = syscall.Open(path, flags, 0o600)
			}
		}
		if err != nil {
			return nil, fail("lock socket", path, unwrapPath(err), "")
		}
		for {
			if err = syscall.Flock(fd, syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		var held, named syscall.Stat_t
		if err == nil {
			err = syscall.Fstat(fd, &held)
		}
		if err != nil {
			syscall.Close(fd)
			return nil, fail("lock socket", path, err, "")
		}
		// The holder before us may have removed the file while we waited; then this lock guards nothing.
		if syscall.Lstat(path, &named) == nil && named.Dev == held.Dev && named.Ino == held.Ino {
			return &socketLock{fd: fd, path: path}, nil
		}
		syscall.Close(fd)
	}
}

func (l *socketLock) unlock() {
	_ = syscall.Unlink(l.path)
	syscall.Close(l.fd)
}
