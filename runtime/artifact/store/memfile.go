package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memfile returns an unlinked file in memory.
func memfile() (*os.File, error) {
	fd, err := unix.MemfdCreate("hachi-artifact", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), "hachi-artifact"), nil
}

// readOnly seals f for good and returns a second, read-only descriptor of it.
func readOnly(f *os.File) (*os.File, error) {
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal memory file: %w", err)
	}
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err == nil {
		return r, nil
	}
	// Without /proc the sealed descriptor serves: nothing can be written through it either.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), "hachi-artifact"), nil
}
