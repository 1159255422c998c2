package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Down removes every trace of the cluster, also of one that crashed or did not come up.
func Down(stdout io.Writer) error {
	l, err := Find()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root (run sudo make cluster-down)")
	}
	if err := down(l); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "cluster: gone, with its processes, cgroups, bridge and files")
	return nil
}

// down kills the cluster's first process, which takes the others with it; the nodes' network and mount namespaces go
// with their processes. The cgroups know who is left. What remains is the bridge, sysctls and files.
func down(l Layout) error {
	if pid, err := l.running(); err == nil {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
	}
	if err := emptyCgroups(); err != nil {
		return err
	}
	if err := removeBridge(); err != nil {
		return err
	}
	if err := restoreSysctls(l); err != nil {
		return err
	}
	return removeState(l)
}

// removeState removes the files. Namespaces are taken down in the background, and until then a mount of theirs
// holds a directory.
func removeState(l Layout) error {
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = os.RemoveAll(l.State()); err == nil || !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("remove the cluster's files: %w", err)
}
