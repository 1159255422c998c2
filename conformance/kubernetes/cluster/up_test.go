package cluster

import (
	"fmt"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestChildrenInheritOnlyStandardStreams(t *testing.T) {
	// Without O_CLOEXEC, as a descriptor is that a shell or flock leaves open.
	fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	has := func() bool { return exec.Command("test", "-e", fmt.Sprintf("/proc/self/fd/%d", fd)).Run() == nil }
	if !has() {
		t.Fatal("a child does not have the descriptor to begin with")
	}
	if err := keepDescriptors(); err != nil {
		t.Fatal(err)
	}
	if has() {
		t.Error("a child still has the descriptor")
	}
}
