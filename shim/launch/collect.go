package launch

import (
	"errors"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// LedgerDir is where servers write their containers down, in files named by the inode of a cgroup's directory; see
// package ledger.
const LedgerDir = "/run/hachi/ledger"

// collectTimeout bounds the last reading of a container's account.
const collectTimeout = time.Second

// collect has the account of a container closed whose server died before it could, while its cgroup can still be
// read. Counting is the business of the server's binary.
func (l *Launcher) collect(f *flags, left *Leftovers, deadline time.Time) error {
	if !l.booked(left.Cgroups) {
		return nil
	}
	if most := time.Now().Add(collectTimeout); most.Before(deadline) {
		deadline = most
	}
	for _, dir := range left.Cgroups {
		emptyCgroup(dir, deadline) // what its processes still do would be in nobody's account
	}
	args := []string{l.Server, "-namespace", f.namespace, "-id", f.id, "collect"}
	// Its words go where ours go, but not into the answer.
	pid, err := syscall.ForkExec(l.Server, args, &syscall.ProcAttr{Env: l.Env, Files: []uintptr{^uintptr(0), 2, 2}})
	if err != nil {
		return fail("close account", l.Server, err, installHint)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		switch {
		case err != nil && err != syscall.EINTR:
			return fail("close account", l.Server, err, "")
		case got == pid && status.Exited() && status.ExitStatus() == 0:
			return nil
		case got == pid:
			return fail("close account", l.Server, errors.New("ended with status "+strconv.Itoa(status.ExitStatus())), "")
		case time.Now().After(deadline):
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
			return fail("close account", l.Server, errors.New("not done in time"), "")
		}
		time.Sleep(pause)
	}
}

// booked tells whether the ledger has an entry of one of these cgroups.
func (l *Launcher) booked(cgroups []string) bool {
	for _, dir := range cgroups {
		var st syscall.Stat_t
		if syscall.Stat(dir, &st) != nil {
			continue
		}
		if syscall.Access(filepath.Join(LedgerDir, strconv.FormatUint(st.Ino, 10)+".json"), 0) == nil {
			return true
		}
	}
	return false
}
