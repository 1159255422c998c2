package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

// book makes an empty entry of a cgroup in the node's ledger.
func book(t *testing.T, dir string) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(LedgerDir, 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(LedgerDir, fmt.Sprint(st.Ino)+".json")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(name) })
}

func TestDeleteClosesTheAccount(t *testing.T) {
	testenv.NeedRoot(t)
	for name, c := range map[string]struct {
		booked           bool
		collect, warning string
	}{
		"of a server that was killed":        {booked: true},
		"which the server has closed before": {},
		"which cannot be closed":             {booked: true, collect: "1ms", warning: "ended with status 3"},
		"which takes too long":               {booked: true, collect: "1m", warning: "not done in time"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.bundle("one", `{}`)
			cmd, process := engine(t)
			dirs := cgroups(t, process.PID)
			if c.booked {
				book(t, dirs[len(dirs)-1])
			}
			r.env = append(r.env, "FAKE_CGROUPS="+strings.Join(dirs, ":"), "FAKE_COLLECT="+c.collect)
			r.leave("one", Leftovers{Cgroups: dirs})
			begin := time.Now()
			_, warnings := r.delete("one")
			if !strings.Contains(warnings, c.warning) || c.warning == "" && warnings != "" {
				t.Errorf("warnings %q, want %q", warnings, c.warning)
			}
			if took := time.Since(begin); took > deleteTimeout {
				t.Errorf("took %v", took)
			}
			// The cgroups were there, and nothing was left in them that could still send.
			want := "-namespace k8s.io -id one collect" + strings.Repeat(" 0", len(dirs))
			got, err := os.ReadFile(filepath.Join(r.records, "collect"))
			if c.booked && string(got) != want || !c.booked && err == nil {
				t.Errorf("the server was called with %q (%v)", got, err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the engine has ended by itself")
			}
			for _, dir := range dirs {
				if _, err := os.Stat(dir); !os.IsNotExist(err) {
					t.Errorf("%s is still there (%v)", dir, err)
				}
			}
		})
	}
}
