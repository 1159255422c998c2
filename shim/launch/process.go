package launch

import (
	"errors"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// Numbers of the system calls that came after the split of the tables; all architectures share them.
const (
	sysPidfdSendSignal = 424 // Linux 5.1
	sysPidfdOpen       = 434 // Linux 5.3
)

// victim is a process held by a pidfd, so that a signal can reach no other.
type victim struct {
	Process
	fd int
}

// hold returns those of the processes that still exist. The caller closes their descriptors.
func hold(processes []Process) ([]victim, error) {
	var alive []victim
	var errs error
	for _, p := range processes {
		if p.PID <= 1 { // init, a process group or everybody: never an engine
			continue
		}
		fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(p.PID), 0, 0)
		switch errno {
		case 0:
		case syscall.ESRCH, syscall.EINVAL, syscall.ENOENT: // the last two: the number is a thread's now
			continue
		default:
			errs = errors.Join(errs, fail("open process", strconv.Itoa(p.PID), errno, ""))
			continue
		}
		// Only after the pidfd holds the process does its start time prove who it is.
		if start, err := ProcessStart(p.PID); err != nil || start != p.Start {
			syscall.Close(int(fd))
			continue
		}
		alive = append(alive, victim{Process: p, fd: int(fd)})
	}
	return alive, errs
}

// end kills the process and waits for its end until deadline.
func (v victim) end(deadline time.Time) error {
	name := strconv.Itoa(v.PID)
	_, _, errno := syscall.Syscall6(sysPidfdSendSignal, uintptr(v.fd), uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	if errno != 0 && errno != syscall.ESRCH {
		return fail("kill process", name, errno, "")
	}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fail("kill process", name, errors.New("still alive after SIGKILL"), "look at /proc/"+name+"/stack")
		}
		request := struct {
			fd              int32
			events, revents int16
		}{fd: int32(v.fd), events: 1 /* POLLIN: the process ended */}
		wait := syscall.NsecToTimespec(int64(left))
		n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&request)), 1, uintptr(unsafe.Pointer(&wait)), 0, 0, 0)
		if errno == 0 && n == 1 {
			return nil
		}
		if errno != 0 && errno != syscall.EINTR {
			return fail("wait for process", name, errno, "")
		}
	}
}
