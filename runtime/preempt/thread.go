//go:build linux && (amd64 || arm64)

package preempt

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is what a thread and Go share. tick_*.s knows its offsets.
type control struct {
	cell   *uint32  // 0: the epoch
	period [2]int64 // 8: struct timespec
	idle   uint32   // 24: 1 while the thread waits on it
	stop   uint32   // 28: 1 when the thread is to end; it sleeps on it
	ticks  uint64   // 32: counts periods
	tid    uint32   // 40: the kernel makes it 0 when the thread has ended
}

// thread is a kernel thread outside of Go's scheduler. It runs only tick_*.s, uses no stack, blocks all signals, and
// makes two system calls, futex and exit, which Go's own runtime needs too.
type thread struct {
	*control

	mu     sync.Mutex
	memory []byte // guarded by mu; nil after the thread's end, when control is gone too
}

// clone starts a thread that runs on stack with the control block c, and returns its id or minus an errno.
func clone(flags, stack uintptr, c *control) int64

func startThread(cell *uint32, period time.Duration) (*thread, error) {
	// The control block must not move or be collected, so it is not Go's; neither is the stack above it.
	size := 2 * unix.Getpagesize()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("start thread: %w", err)
	}
	t := &thread{memory: mem, control: (*control)(unsafe.Pointer(&mem[0]))}
	t.cell, t.period, t.tid = cell, [2]int64{int64(period / time.Second), int64(period % time.Second)}, 1
	const flags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD |
		unix.CLONE_SYSVSEM | unix.CLONE_CHILD_CLEARTID | unix.CLONE_CHILD_SETTID
	// The thread inherits the mask: a signal handled on it would run Go's handler without a Go thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("start thread: block signals: %w", err)
	}
	tid := clone(flags, uintptr(unsafe.Pointer(&mem[0]))+uintptr(size), t.control)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	if tid < 0 {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("start thread: clone: %w", unix.Errno(-tid))
	}
	return t, nil
}

// wake makes a waiting thread tick again.
func (t *thread) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.memory == nil {
		return
	}
	if atomic.SwapUint32(&t.idle, 0) == 1 {
		futexWake(&t.idle)
	}
}

func futexWake(word *uint32) {
	const wake, private = 1, 128
	_, _, _ = unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), wake|private, 1)
}

// stop ends the thread and waits for that. It is called once.
func (t *thread) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	atomic.StoreUint32(&t.control.stop, 1)
	atomic.StoreUint32(&t.idle, 0)
	futexWake(&t.control.stop)
	futexWake(&t.idle)
	for atomic.LoadUint32(&t.tid) != 0 {
		time.Sleep(50 * time.Microsecond)
	}
	_ = unix.Munmap(t.memory)
	t.memory = nil
}
