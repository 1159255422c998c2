package suite

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hachi-run/hachi/internal/testenv/leak"
)

// Parts of the node are killed, one after the other, under a pod of each kind. Tests that
// are not parallel run before those that are, so no other pod is there.
func TestNodeChaos(t *testing.T) {
	spaces := []*space{newSpace(t, hachi), newSpace(t, runc)}
	var tokens []string
	for _, s := range spaces {
		p := s.serving("web")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		withToken(p)
		s.run(p)
		tokens = append(tokens, s.must(s.get("web"), "/read", "path", "/token/token"))
	}
	for _, name := range []string{"kubelet", "containerd"} {
		t.Run(name, func(t *testing.T) {
			before := containerIDs(spaces)
			killAll(t, name)
			for i, s := range spaces {
				// It serves while nobody looks after it.
				s.must(s.get("web"), "/")
				eventually(t, "exec after the death of "+name, soon, func() error {
					if out, code := s.try("", "exec", "web", "--", "cat", "/etc/hostname"); code != 0 || out != "web\n" {
						return errorf("exit code %d: %s", code, out)
					}
					return nil
				})
				if got := status(s.ready("web")); got.ContainerID != before[i] || got.RestartCount != 0 {
					t.Errorf("%s: another container, or a restart: %+v", s.kind.name, got)
				}
			}
		})
	}
	// The new kubelet does not know the tokens of the old one, and rotates them as it does old ones after some minutes.
	t.Run("rotated token", func(t *testing.T) {
		for i, s := range spaces {
			eventually(t, "another token in the pod of "+s.kind.name, soon, func() error {
				if now := s.must(s.get("web"), "/read", "path", "/token/token"); now == "" || now == tokens[i] {
					return errorf("still %d bytes", len(now))
				}
				return nil
			})
		}
	})
	for _, test := range []struct {
		name, victim string
	}{{"engine", "hachi-engine"}, {"shim", "hachi-shim"}} {
		t.Run(test.name, func(t *testing.T) {
			s := spaces[0]
			restarts := status(s.get("web")).RestartCount
			killAll(t, test.victim)
			p := s.until("web", "running again", func(p *corev1.Pod) bool {
				c := status(p)
				return c.Ready && c.RestartCount > restarts
			})
			if last := status(p).LastTerminationState.Terminated; last == nil || last.ExitCode == 0 {
				t.Errorf("the container that was killed ended as %+v", last)
			}
			eventually(t, "answer", soon, func() error { _, err := s.ask(s.get("web"), "/"); return err })
		})
	}
	t.Run("reboot", func(t *testing.T) {
		before, olds := nodePID(), containerIDs(spaces)
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another first process", soon, func() error {
			if nodePID() == before {
				return errorf("still %d", before)
			}
			return nil
		})
		for i, s := range spaces {
			s.until("web", "running again", func(p *corev1.Pod) bool { c := status(p); return c.Ready && c.ContainerID != olds[i] })
			eventually(t, "answer of "+s.kind.name, soon, func() error { _, err := s.ask(s.get("web"), "/"); return err })
		}
		spaces[0].kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=180s")
	})
	t.Run("drain", func(t *testing.T) {
		s := newSpace(t, hachi)
		s.deployment(s.serving("web"), 1)
		s.kubectl("drain", "node1", "--pod-selector=app=web", "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
		defer s.kubectl("uncordon", "node1")
		list, err := api.CoreV1().Pods(s.name).List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Items {
			if p.Spec.NodeName != "" {
				t.Errorf("pod %s is on a node that was drained", p.Name)
			}
		}
		s.kubectl("uncordon", "node1")
		s.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	})
}

// withToken gives a pod's container a token of its service account at /token/token.
func withToken(p *corev1.Pod) {
	ttl := int64(600)
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "bees", ExpirationSeconds: &ttl, Path: "token"}}},
	}}})
	p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "token", MountPath: "/token"})
}

func containerIDs(spaces []*space) []string {
	ids := make([]string, len(spaces))
	for i, s := range spaces {
		ids[i] = status(s.get("web")).ContainerID
	}
	return ids
}

// killAll kills the processes of the node that run a program.
func killAll(t *testing.T, name string) {
	t.Helper()
	victims := onNodeProcesses(name)
	if len(victims) == 0 {
		t.Fatalf("no process %s on the node", name)
	}
	for _, v := range victims {
		if err := syscall.Kill(v.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
}

// A hundred pods of each kind: all get ready, and what they take is printed as a table.
func TestHundredPods(t *testing.T) {
	if testing.Short() {
		t.Skip("needs minutes: run without -short")
	}
	const pods = 100
	kinds := []kind{hachi, runc}
	table := "| 100 pods of a Go web service | " + hachi.name + " | " + runc.name + " |\n| --- | --- | --- |\n"
	measured := make([]crowd, len(kinds))
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) { measured[i] = startCrowd(t, k, pods) })
	}
	a, b := measured[0], measured[1]
	if len(a.starts) != pods || len(b.starts) != pods {
		t.Fatalf("%d and %d pods were seen to start", len(a.starts), len(b.starts))
	}
	for _, row := range []struct {
		name string
		of   func(crowd) any
	}{
		{"all ready after", func(c crowd) any { return c.ready.Round(100 * time.Millisecond) }},
		{"scheduled to ready, fastest", func(c crowd) any { return c.starts[0].Round(10 * time.Millisecond) }},
		{"median", func(c crowd) any { return c.starts[pods/2].Round(10 * time.Millisecond) }},
		{"90 %", func(c crowd) any { return c.starts[pods*9/10].Round(10 * time.Millisecond) }},
		{"slowest", func(c crowd) any { return c.starts[pods-1].Round(10 * time.Millisecond) }},
		{"memory of a pod (PSS of its shim and all below it), MiB", func(c crowd) any { return fmt.Sprintf("%.1f", float64(c.memory)/pods/(1<<20)) }},
		{"all gone after", func(c crowd) any { return c.gone.Round(100 * time.Millisecond) }},
	} {
		table += fmt.Sprintf("| %s | %v | %v |\n", row.name, row.of(a), row.of(b))
	}
	t.Logf("on %d cores, with the whole cluster:\n%s", runtime.NumCPU(), table)
}

// crowd is what many pods took.
type crowd struct {
	ready, gone time.Duration   // of all, from the request
	starts      []time.Duration // of each, from being scheduled to being ready, in order
	memory      int64           // of all, in bytes
}

func startCrowd(t *testing.T, k kind, pods int) (c crowd) {
	s := newSpace(t, k)
	s.deployment(s.serving("warm"), 1) // the image is there and, for hachi, compiled
	s.kubectl("delete", "deployment", "warm", "--cascade=foreground")
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w, err := api.CoreV1().Pods(s.name).Watch(watching, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.replicate(s.serving("web"), int32(pods))
	scheduled, ready := map[string]time.Time{}, map[string]time.Time{}
	for len(ready) < pods {
		select {
		case e := <-w.ResultChan():
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				t.Fatalf("watch: %v", e)
			}
			for _, condition := range p.Status.Conditions {
				seen := map[corev1.PodConditionType]map[string]time.Time{corev1.PodScheduled: scheduled, corev1.PodReady: ready}[condition.Type]
				if seen != nil && seen[p.Name].IsZero() && condition.Status == corev1.ConditionTrue {
					seen[p.Name] = time.Now()
				}
			}
		case <-time.After(soon):
			t.Fatalf("%d of %d pods are ready, and no news for %v", len(ready), pods, soon)
		}
	}
	c.ready = time.Since(begin)
	for name, at := range ready {
		c.starts = append(c.starts, at.Sub(scheduled[name]))
	}
	slices.Sort(c.starts)
	c.memory = podPSS()
	begin = time.Now()
	s.kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=300s")
	c.gone = time.Since(begin)
	return c
}

// podPSS adds up the proportional memory of all pods on the node, in bytes: of every process below a shim.
func podPSS() int64 {
	all := leak.Processes()
	inside := map[int]bool{}
	for _, name := range []string{"hachi-shim", "containerd-shim-runc-v2"} {
		for _, p := range onNodeProcesses(name) {
			inside[p.PID] = true
		}
	}
	for again := true; again; {
		again = false
		for _, p := range all {
			if inside[p.Parent] && !inside[p.PID] {
				inside[p.PID], again = true, true
			}
		}
	}
	var sum int64
	for pid := range inside {
		raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
		for line := range strings.Lines(string(raw)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				kib, _ := strconv.ParseInt(f[1], 10, 64)
				sum += kib << 10
			}
		}
	}
	return sum
}
