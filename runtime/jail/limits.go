package jail

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

var rlimits = map[string]int{
	"RLIMIT_AS":         unix.RLIMIT_AS,
	"RLIMIT_CORE":       unix.RLIMIT_CORE,
	"RLIMIT_CPU":        unix.RLIMIT_CPU,
	"RLIMIT_DATA":       unix.RLIMIT_DATA,
	"RLIMIT_FSIZE":      unix.RLIMIT_FSIZE,
	"RLIMIT_LOCKS":      unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK":    unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE":   unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE":       unix.RLIMIT_NICE,
	"RLIMIT_NOFILE":     unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC":      unix.RLIMIT_NPROC,
	"RLIMIT_RSS":        unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO":     unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME":     unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_STACK":      unix.RLIMIT_STACK,
}

func setRlimits(limits []Rlimit) error {
	for _, l := range limits {
		which, ok := rlimits[l.Type]
		if !ok {
			return fmt.Errorf("set rlimit %q: unknown name", l.Type)
		}
		err := unix.Prlimit(0, which, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set %s to %d:%d: %w (above the caller's own hard limit, which needs CAP_SYS_RESOURCE)", l.Type, l.Soft, l.Hard, err)
		}
		if err != nil {
			return fmt.Errorf("set %s to %d:%d: %w", l.Type, l.Soft, l.Hard, err)
		}
	}
	return nil
}

// setOOMScoreAdj tolerates that a caller without CAP_SYS_RESOURCE may not go below its own score, as CRI's
// restrict_oom_score_adj does: the inherited value then stays.
func setOOMScoreAdj(score *int) error {
	if score == nil {
		return nil
	}
	err := os.WriteFile("/proc/self/oom_score_adj", strconv.AppendInt(nil, int64(*score), 10), 0)
	if errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set oom_score_adj to %d: %w", *score, err)
	}
	return nil
}
