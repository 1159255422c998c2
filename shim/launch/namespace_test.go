package launch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

// pod is the config.json of a CRI sandbox container with the given linux.namespaces.
func pod(id, spaces string) string {
	return `{"ociVersion":"1.2.0","annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-id":"` + id + `"},"linux":{"namespaces":[` + spaces + `]}}`
}

// otherNamespaces starts a process in new namespaces and returns the folder of its namespace files.
func otherNamespaces(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns", cmd.Process.Pid)
}

func TestServerLivesInThePodsNamespaces(t *testing.T) {
	testenv.NeedRoot(t)
	other := otherNamespaces(t)
	const host, fresh, joined = "host", "new", "joined"
	for _, c := range []struct {
		name, spaces  string
		net, ipc, uts string
	}{
		{"CRI pod", `{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network","path":"` + other + `/net"}`, joined, fresh, fresh},
		{"host network", `{"type":"pid"},{"type":"ipc"},{"type":"mount"}`, host, fresh, host},
		{"host everything", `{"type":"mount"},{"type":"pid"},{"type":"cgroup"}`, host, host, host},
		{"all new", `{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}`, fresh, fresh, fresh},
		{"empty paths", `{"type":"network","path":""},{"type":"ipc","path":""},{"type":"uts","path":""}`, fresh, fresh, fresh},
		{"all joined", `{"type":"uts","path":"` + other + `/uts"},{"type":"network","path":"` + other + `/net"},{"type":"ipc","path":"` + other + `/ipc"}`, joined, joined, joined},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.bundle("pod", pod("pod", c.spaces))
			r.start("pod")
			s := r.servers(1)[0]
			for kind, want := range map[string]string{"net": c.net, "ipc": c.ipc, "uts": c.uts, "mnt": host, "pid": host, "user": host, "cgroup": host} {
				if got := whose(t, s.Spaces[kind], kind, other); got != want {
					t.Errorf("namespace %s: %s, want %s", kind, got, want)
				}
			}
			if up := strings.Contains(s.Loopback, "up"); c.net == fresh && !up {
				t.Errorf("loopback of the new network is %s", s.Loopback)
			}
		})
	}
}

// whose says which namespace a link like net:[4026531840] names.
func whose(t *testing.T, link, kind, other string) string {
	t.Helper()
	for _, known := range [][2]string{{"host", "/proc/self/ns"}, {"joined", other}} {
		same, err := os.Readlink(filepath.Join(known[1], kind))
		if err != nil {
			t.Fatal(err)
		}
		if link == same {
			return known[0]
		}
	}
	return "new"
}

// containerd 1.7 executes start for every container of a pod; the server may be gone by then.
func TestContainerDoesNotDecideForItsPod(t *testing.T) {
	testenv.NeedRoot(t)
	other := otherNamespaces(t)
	r := newRig(t)
	r.bundle("pod", pod("pod", `{"type":"network","path":"`+other+`/net"}`))
	r.bundle("web", `{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"},"linux":{"namespaces":[{"type":"uts"}]}}`)
	address := r.start("web")
	s := r.servers(1)[0]
	if got := whose(t, s.Spaces["net"], "net", other); got != "joined" {
		t.Errorf("network: %s, want joined", got)
	}
	if got := whose(t, s.Spaces["uts"], "uts", other); got != "host" {
		t.Errorf("uts: %s, want host", got)
	}
	if again := r.start("pod"); again != address {
		t.Errorf("the pod itself is at %s, its container at %s", again, address)
	}
	r.servers(1)
}

func TestNamespaceThatCannotBeJoined(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.bundle("gone", pod("gone", `{"type":"network","path":"/var/run/netns/gone"}`))
	if got, want := r.refused("gone"), "hachi: join network namespace: /var/run/netns/gone: no such file or directory"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	r.bundle("wrong", pod("wrong", `{"type":"network","path":"/proc/self/ns/uts"}`))
	if got, want := r.refused("wrong"), "hachi: join network namespace: /proc/self/ns/uts: invalid argument"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if n := len(r.read()); n != 0 {
		t.Errorf("%d servers were started", n)
	}
}
