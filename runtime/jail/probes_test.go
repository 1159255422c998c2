package jail

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probes are what a jailed child can be asked to try.
var probes = map[string]func(args []string) (string, error){
	"read": func(a []string) (string, error) {
		b, err := os.ReadFile(a[0])
		return string(b), err
	},
	"write": func(a []string) (string, error) {
		f, err := os.OpenFile(a[0], os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return "", err
		}
		_, err = f.WriteString("written")
		return "", errors.Join(err, f.Close())
	},
	"overwrite": func(a []string) (string, error) {
		f, err := os.OpenFile(a[0], os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		_, err = f.WriteString("written")
		return "", errors.Join(err, f.Close())
	},
	"list": func(a []string) (string, error) {
		entries, err := os.ReadDir(a[0])
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " "), err
	},
	"stat": func(a []string) (string, error) {
		st, err := os.Lstat(a[0])
		if err != nil {
			return "", err
		}
		return st.Mode().String(), nil
	},
	"statfs": func(a []string) (string, error) {
		f, err := os.Open(a[0])
		if err != nil {
			return "", err
		}
		defer f.Close()
		var st unix.Statfs_t
		err = unix.Fstatfs(int(f.Fd()), &st)
		return fmt.Sprintf("size=%d flags=%#x", st.Blocks*uint64(st.Bsize), st.Flags), err
	},
	"mkdir":  func(a []string) (string, error) { return "", os.Mkdir(a[0], 0o755) },
	"remove": func(a []string) (string, error) { return "", os.Remove(a[0]) },
	"raw":    rawCall,
	"exec": func(a []string) (string, error) {
		return "", syscall.Exec(a[0], a[:1], nil)
	},
	"spawn": func(a []string) (string, error) {
		_, err := syscall.ForkExec(a[0], a[:1], nil)
		return "", err
	},
	"work":   func([]string) (string, error) { return "", work() },
	"spin":   func([]string) (string, error) { go spin(); go spin(); return "", nil },
	"listen": listen,
	"identity": func([]string) (string, error) {
		groups, err := unix.Getgroups()
		return fmt.Sprint(unix.Getuid(), unix.Geteuid(), unix.Getgid(), unix.Getegid(), groups), err
	},
	"rlimit": func(a []string) (string, error) {
		var l unix.Rlimit
		err := unix.Prlimit(0, rlimits[a[0]], nil, &l)
		return fmt.Sprint(l.Cur, l.Max), err
	},
	"getfd": func(a []string) (string, error) {
		fd, _ := strconv.Atoi(a[0])
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		return "", err
	},
}

// rawCall makes a system call with numeric arguments and reports its errno.
func rawCall(a []string) (string, error) {
	var n [7]uintptr
	for i, s := range a {
		v, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return "", err
		}
		n[i] = uintptr(v)
	}
	r, _, errno := syscall.Syscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
	if errno != 0 {
		return "", errno
	}
	return strconv.Itoa(int(r)), nil
}

func spin() {
	for i := 0; ; i++ {
	}
}

func listen([]string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// work does what an engine does: threads, garbage collection, executable memory, sockets, timers.
func work() error {
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.LockOSThread() // new threads, and their end
			var keep [][]byte
			for i := range 200 {
				keep = append(keep, make([]byte, 64<<10))
				if i%50 == 0 {
					runtime.GC()
				}
			}
			_ = keep
		}()
	}
	wg.Wait()
	mem, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return fmt.Errorf("mprotect exec: %w", err)
	}
	if err := unix.Munmap(mem); err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("code", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	defer unix.Close(fd)
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
	if err := tcp(); err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	if err := udp(); err != nil {
		return fmt.Errorf("udp: %w", err)
	}
	_, err = unix.Getrandom(make([]byte, 16), 0)
	return err
}

func tcp() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	got := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		got <- err
	}()
	c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	return <-got
}

func udp() error {
	a, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := net.Dial("udp", a.LocalAddr().String())
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := b.Write([]byte("x")); err != nil {
		return err
	}
	a.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _, err = a.ReadFrom(make([]byte, 1))
	return err
}
