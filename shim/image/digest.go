package image

import (
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

// checkModule says early, and in words, what the engine would refuse later.
func checkModule(f *os.File) error {
	head := make([]byte, wasmbin.HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	switch form := wasmbin.Sniff(head[:n]); form {
	case wasmbin.Module:
		return nil
	case wasmbin.Component:
		return fmt.Errorf("is a WebAssembly component: %w (this build runs core modules; build for wasip1 instead of wasip2)", errdefs.ErrInvalidArgument)
	case wasmbin.Future:
		return fmt.Errorf("is truncated or of an unknown WebAssembly version: %w (build it again, for wasip1)", errdefs.ErrInvalidArgument)
	default:
		return fmt.Errorf("is a %s of %d bytes or more, not a WebAssembly module: %w", form, n, errdefs.ErrInvalidArgument)
	}
}

// sealed is an empty memory file; fill writes it and it becomes immutable. Its name shows in
// /proc/PID/maps. Close the result.
func sealed(name string, fill func(*os.File) error) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd:"+name)
	if err := fill(f); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memfd: %w", err)
	}
	return readOnly(f)
}

// readOnly opens f's file again from its start, without the right to write, and closes f.
func readOnly(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// advise says what to do about damaged content.
func advise(err error) error {
	if errdefs.IsDataLoss(err) {
		return fmt.Errorf("%w (remove the image and pull it again)", err)
	}
	return err
}
