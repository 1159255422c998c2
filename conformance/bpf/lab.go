package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/bpf/redirect"
	"github.com/hachi-run/hachi/internal/probe"
)

// What is compared. The first is what the others are divided by.
const (
	none       = "none"
	accounting = "accounting"
	redirected = "redirection"
	together   = "accounting + redirection"
	nft        = "nftables REDIRECT"
)

var variants = []string{none, accounting, redirected, together, nft}

const (
	port   = 4140
	direct = "127.0.0.1:4140"
	// far is an address behind the namespace's only link, where nobody is.
	far = "10.90.0.2:80"
)

// lab holds what must be gone at the end, newest last.
type lab struct {
	root, cgroup string
	undo         []func() error
}

func newLab() (*lab, error) {
	top, err := probe.Cgroup2()
	if err != nil {
		return nil, err
	}
	l := &lab{root: fmt.Sprintf("/sys/fs/bpf/hachi-bench-%d", os.Getpid())}
	if l.cgroup, err = l.newCgroup(top, fmt.Sprintf("hachi-bench-%d", os.Getpid())); err != nil {
		return nil, err
	}
	l.undo = append(l.undo, func() error { return os.RemoveAll(l.root) })
	return l, nil
}

func (l *lab) close() error {
	var errs []error
	for i := len(l.undo) - 1; i >= 0; i-- {
		errs = append(errs, l.undo[i]())
	}
	return errors.Join(errs...)
}

func (l *lab) newCgroup(parent, name string) (string, error) {
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	l.undo = append(l.undo, func() (err error) {
		for range 100 { // a process that was waited for may stay in its cgroup for a moment
			if err = os.Remove(dir); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		return err
	})
	return dir, nil
}

// side is one variant: its client.
type side struct {
	name   string
	to     string
	orders io.Writer
	said   *bufio.Reader
}

func (l *lab) side(ctx context.Context, name string) (*side, error) {
	short := strings.Map(func(r rune) rune {
		if r == ' ' || r == '+' {
			return '-'
		}
		return r
	}, name)
	pod, err := l.newCgroup(l.cgroup, short+"-pod")
	if err != nil {
		return nil, err
	}
	end, err := l.newCgroup(l.cgroup, short+"-endpoint")
	if err != nil {
		return nil, err
	}
	netns, err := l.newNetns()
	if err != nil {
		return nil, err
	}
	to := far
	if name == none || name == accounting {
		to = direct
	}
	if err := l.attach(ctx, name, pod, end); err != nil {
		return nil, err
	}
	if name == nft {
		if err := redirectByNFT(netns, port); err != nil {
			return nil, fmt.Errorf("nftables: %w", err)
		}
	}
	learn := map[string]string{redirected: l.root, together: l.root, nft: "sockopt"}[name]
	_, said, err := l.start(netns, end, "endpoint", learn)
	if err != nil {
		return nil, err
	}
	if _, err := said.ReadString('\n'); err != nil { // it is ready
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	s := &side{name: name, to: to}
	if s.orders, s.said, err = l.start(netns, pod, "client"); err != nil {
		return nil, err
	}
	return s, nil
}

// attach does to the pod what the variant is about.
func (l *lab) attach(ctx context.Context, name, pod, end string) error {
	if name == accounting || name == together {
		o, err := observe.Open(ctx, observe.Options{Root: l.root})
		if err != nil {
			return err
		}
		id, err := o.Attach(pod)
		if err != nil {
			return errors.Join(err, o.Close())
		}
		l.undo = append(l.undo, func() error {
			_, err := o.Detach(id)
			return errors.Join(err, o.Close())
		})
	}
	if name == redirected || name == together {
		r, err := redirect.Open(ctx, redirect.Options{Root: l.root})
		if err != nil {
			return err
		}
		l.undo = append(l.undo, r.Close)
		ids, err := r.Attach(ctx, redirect.Pod{Cgroups: []string{pod}, Config: redirect.Config{Outbound: redirect.Outbound{Port: port}}})
		if err != nil {
			return err
		}
		l.undo = append(l.undo, func() error { return r.Detach(context.WithoutCancel(ctx), ids...) })
		id, err := r.AttachEndpoint(ctx, end, false)
		if err != nil {
			return err
		}
		l.undo = append(l.undo, func() error { return r.DetachEndpoint(context.WithoutCancel(ctx), id) })
	}
	return nil
}

// start runs this program in a role, in a cgroup and a network namespace, until its input ends.
func (l *lab) start(netns *os.File, cgroup string, args ...string) (io.Writer, *bufio.Reader, error) {
	dir, err := os.Open(cgroup)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := within(netns, cmd.Start); err != nil {
		return nil, nil, err
	}
	l.undo = append(l.undo, func() error { return errors.Join(in.Close(), cmd.Wait()) })
	return in, bufio.NewReader(out), nil
}

// newNetns makes a namespace with a loopback and a link that leads to nobody.
func (l *lab) newNetns() (*os.File, error) {
	var netns *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		eth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth1"}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 90, 0, 1).To4(), Mask: net.CIDRMask(24, 32)}}
		for _, step := range []func() error{
			func() error { return netlink.LinkSetUp(lo) },
			func() error { return netlink.LinkAdd(eth) },
			func() error { return netlink.AddrAdd(eth, addr) },
			func() error { return netlink.LinkSetUp(eth) },
		} {
			if err := step(); err != nil {
				return fmt.Errorf("set up network namespace: %w", err)
			}
		}
		netns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err == nil {
		l.undo = append(l.undo, netns.Close)
	}
	return netns, err
}

func within(netns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func pinToOneCPU() error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Zero() // the last one wins, for interrupts like the first
			one.Set(cpu)
		}
	}
	// Children inherit it from the thread that starts them, which may be any.
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		var tid int
		if _, err := fmt.Sscan(thread.Name(), &tid); err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &one); err != nil {
			return fmt.Errorf("pin to one CPU: %w", err)
		}
	}
	return nil
}
