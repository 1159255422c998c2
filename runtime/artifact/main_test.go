package artifact

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv("HACHI_TEST_LOAD"); spec != "" {
		os.Exit(loadInChild(spec))
	}
	before := openFiles()
	code := m.Run()
	if guestDir != "" {
		os.RemoveAll(guestDir)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if after := openFiles(); after > before && code == 0 {
		fmt.Fprintf(os.Stderr, "%d files left open\n", after-before)
		code = 1
	}
	os.Exit(code)
}

// openFiles counts descriptors, without those that Go's own poller opens once.
func openFiles() int {
	names, _ := os.ReadDir("/proc/self/fd")
	n := 0
	for _, d := range names {
		target, err := os.Readlink("/proc/self/fd/" + d.Name())
		if err == nil && target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
			n++
		}
	}
	return n
}
