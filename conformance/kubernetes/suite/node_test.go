package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hachi-run/hachi/conformance/kubernetes/cluster"
	"github.com/hachi-run/hachi/internal/testenv/leak"
)

// onNode reads a file of the node's disk.
func onNode(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(layout.State("node1", "root"), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// hostPath mounts a directory of the node, which is made if need be.
func hostPath(p *corev1.Pod, node, path string) {
	kind := corev1.HostPathDirectoryOrCreate
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{
		Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: node, Type: &kind}},
	})
	p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "host", MountPath: path})
}

// limits are requests and limits at once; an empty one is none.
func limits(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return corev1.ResourceRequirements{Requests: list, Limits: list}
}

// cgroupValue reads a file of the cgroup of container main: the first of names that is there, as v1 and v2 call it differently.
func cgroupValue(p *corev1.Pod, names ...string) (string, error) {
	_, id, _ := strings.Cut(status(p).ContainerID, "://")
	for _, top := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"} {
		for _, class := range []string{"", "burstable", "besteffort"} {
			for _, name := range names {
				file := filepath.Join(top, cluster.Name, "node1/kubepods", class, "pod"+string(p.UID), id, name)
				if raw, err := os.ReadFile(file); err == nil {
					return strings.TrimSpace(string(raw)), nil
				}
			}
		}
	}
	return "", fmt.Errorf("no %v in a cgroup of container %s", names, id)
}

// nodePID is the host's number of the node's first process.
func nodePID() int {
	raw, _ := os.ReadFile(layout.State("node1", "pid"))
	pid, _ := strconv.Atoi(string(raw))
	return pid
}

// onNodeProcesses lists the processes of the node by the name of their program.
func onNodeProcesses(name string) []leak.Process {
	all := leak.Processes()
	inside := map[int]bool{nodePID(): true}
	for again := true; again; {
		again = false
		for _, p := range all {
			if inside[p.Parent] && !inside[p.PID] {
				inside[p.PID], again = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(p leak.Process) bool { return !inside[p.PID] || p.State == 'Z' || program(p.PID) != name })
}

// program is the base name of the program a process runs.
func program(pid int) string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	name, _, _ := strings.Cut(string(raw), "\x00")
	return filepath.Base(name)
}

// leftovers lists what is still on the node when all pods of the suite should be gone.
func leftovers(limit time.Duration) []string {
	deadline := time.Now().Add(limit)
	for {
		left, others := pods()
		if len(left) == 0 && !others {
			for _, name := range []string{"hachi-shim", "hachi-engine", "hachi-linux"} {
				for _, p := range onNodeProcesses(name) {
					left = append(left, p.String())
				}
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(time.Second)
	}
}

// pods lists those of the suite, and says whether others of the cluster use hachi.
func pods() (suite []string, others bool) {
	list, err := api.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return []string{err.Error()}, false
	}
	for _, p := range list.Items {
		if strings.HasPrefix(p.Namespace, "suite-") {
			suite = append(suite, "pod "+p.Namespace+"/"+p.Name)
		} else if p.Spec.RuntimeClassName != nil {
			others = true
		}
	}
	return suite, others
}
