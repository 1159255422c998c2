package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs a package's tests and then fails the package if a goroutine or a descriptor is left:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
func Main(m *testing.M) int {
	before := descriptors()
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintf(os.Stderr, "goroutines left after the last test: %v\n", err)
		code = 1
	}
	// What a finalizer or a closing goroutine is about to close is no leak.
	var left map[string]string
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if left = newer(before, descriptors()); len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for fd, target := range left {
		fmt.Fprintf(os.Stderr, "descriptor left after the last test: %s -> %s\n", fd, target)
		code = 1
	}
	return code
}

// descriptors maps each open descriptor to what it is. The runtime's own epoll and event descriptors
// appear with the first use of the network and stay.
func descriptors() map[string]string {
	fds := map[string]string{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil && target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
			fds[e.Name()] = target
		}
	}
	return fds
}

func newer(before, after map[string]string) map[string]string {
	left := map[string]string{}
	for fd, target := range after {
		if _, ok := before[fd]; !ok {
			left[fd] = target
		}
	}
	return left
}
