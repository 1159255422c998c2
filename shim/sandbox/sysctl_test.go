package sandbox

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestSysctlsOfTheNodeAreRefused matters: the server is root in the node's own sysctl tree.
func TestSysctlsOfTheNodeAreRefused(t *testing.T) {
	all := Own{Network: true, IPC: true}
	for name, c := range map[string]struct {
		own  Own
		says string
	}{
		"kernel.core_pattern":      {all, "the node's"},
		"vm.drop_caches":           {all, "the node's"},
		"kernel.shmmax2":           {all, "the node's"},
		"fs.file-max":              {all, "the node's"},
		"":                         {all, "the node's"},
		"kernel/core_pattern":      {all, "name with dots"},
		"net/../kernel/domainname": {all, "name with dots"},
		"net.ipv4.ip_forward":      {Own{IPC: true}, "node's network"},
		"kernel.shm_rmid_forced":   {Own{Network: true}, "node's IPC"},
		"fs.mqueue.queues_max":     {Own{Network: true}, "node's IPC"},
	} {
		err := SetSysctls(map[string]string{name: "1"}, c.own)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: got %v, want InvalidArgument that says %q", name, err, c.says)
		}
	}
}

func TestSysctlsAreWrittenAllOrNone(t *testing.T) {
	const name, file = "kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	now := strings.TrimSpace(string(before))
	own := Own{IPC: true}
	// What is there already, written once more, changes nothing on the machine.
	if err := SetSysctls(map[string]string{name: now}, own); err != nil && os.Geteuid() == 0 {
		t.Error(err)
	}
	if err := SetSysctls(map[string]string{name: "not a number"}, own); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a bad value: %v", err)
	}
	other := map[string]string{"0": "1", "1": "0"}[now]
	if err := SetSysctls(map[string]string{name: other, "vm.swappiness": "1"}, own); err == nil {
		t.Error("a sysctl of the node was taken")
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("%s was %q and is %q: a list with a mistake was written in part", name, before, after)
	}
	if err := SetSysctls(nil, Own{}); err != nil {
		t.Error(err)
	}
}
