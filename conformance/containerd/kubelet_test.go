package containerd

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/internal/testenv"
)

var kubeletFlag = flag.String("kubelet", "", "a kubelet, relative to the top of the source tree, that may have this machine for itself")

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%s
staticPodPath: %s
podLogsDir: %s
address: 127.0.0.1
readOnlyPort: 10255
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
makeIPTablesUtilChains: false
evictionHard: {memory.available: 10Mi, nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
`

const staticPod = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: %q, imagePullPolicy: Never, args: [ready], resources: {limits: {memory: 64Mi, cpu: 500m}}}
`

// summary is what the test reads of kubelet's /stats/summary.
type summary struct {
	Pods []struct {
		PodRef struct{ Name string }
		usage
		Containers []struct {
			Name string
			usage
		}
	}
}

type usage struct {
	CPU    struct{ UsageCoreNanoSeconds uint64 }
	Memory struct{ WorkingSetBytes uint64 }
}

// TestKubelet has a kubelet without a cluster run a pod from a file on a host with cgroup2 alone, and looks for the pod's
// figures where metrics-server and Prometheus do. In a cluster, on the cgroups of this host, conformance/kubernetes does.
func TestKubelet(t *testing.T) {
	if *kubeletFlag == "" {
		t.Skip("a kubelet wants a machine of its own: make test has one for it, in which this test runs again (make test-cgroup2)")
	}
	top, err := testenv.Source()
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, "2.4.2")
	dir := testenv.ShortDir(t)
	pods := filepath.Join(dir, "pods")
	if err := os.Mkdir(pods, 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.yaml")
	for file, text := range map[string]string{
		config:                          fmt.Sprintf(kubeletConfig, n.d.Address, pods, filepath.Join(dir, "logs")),
		filepath.Join(pods, "web.yaml"): fmt.Sprintf(staticPod, wasmImage),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	root := filepath.Join(dir, "root")
	kubelet := exec.Command(filepath.Join(top, *kubeletFlag), "--config", config, "--root-dir", root, "--hostname-override", "machine")
	kubelet.Stdout, kubelet.Stderr = log, log
	if err := kubelet.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- kubelet.Wait() }()
	defer func() {
		_ = kubelet.Process.Kill()
		<-ended
		n.removeAll(t)
		_ = unix.Unmount(root, unix.MNT_DETACH) // kubelet's own, for volumes to be seen
		if t.Failed() {
			raw, _ := os.ReadFile(log.Name())
			t.Logf("the end of kubelet's log:\n%s", raw[max(0, len(raw)-8000):])
		}
	}()
	id := n.running(t, ended)
	group := strings.TrimPrefix(onlyOne(t, "/sys/fs/cgroup/kubepods/*/*/"+id, "/sys/fs/cgroup/kubepods/*/"+id), "/sys/fs/cgroup")
	least := scopeCPU(t, group)
	within(t, 3*time.Minute, "the pod in kubelet's summary", func() error {
		raw, err := get("http://127.0.0.1:10255/stats/summary")
		if err != nil {
			return err
		}
		var s summary
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		if len(s.Pods) != 1 || s.Pods[0].PodRef.Name != "web-machine" || len(s.Pods[0].Containers) != 1 {
			return fmt.Errorf("%s", raw)
		}
		pod, c := s.Pods[0].usage, s.Pods[0].Containers[0].usage
		most := scopeCPU(t, group)
		if used := c.CPU.UsageCoreNanoSeconds; used < least || used > most || pod.CPU.UsageCoreNanoSeconds < least {
			return fmt.Errorf("the pod used %d ns and the container %d; its cgroup %d to %d", pod.CPU.UsageCoreNanoSeconds, used, least, most)
		}
		const limit = 64 << 20
		if size := c.Memory.WorkingSetBytes; size == 0 || size > limit || pod.Memory.WorkingSetBytes == 0 {
			return fmt.Errorf("the pod holds %d bytes and the container %d", pod.Memory.WorkingSetBytes, size)
		}
		return nil
	})
	within(t, time.Minute, "the pod in kubelet's resource metrics", func() error {
		raw, err := get("http://127.0.0.1:10255/metrics/resource")
		if err != nil {
			return err
		}
		for _, want := range []string{
			`container_cpu_usage_seconds_total{container="main",namespace="default",pod="web-machine"}`, `pod_memory_working_set_bytes{namespace="default",pod="web-machine"}`,
		} {
			if !strings.Contains(string(raw), want) {
				return fmt.Errorf("no %s in\n%s", want, raw)
			}
		}
		return nil
	})
}

// running waits for the container of the one pod that there is, and returns its id. Nobody starts it when ended has a
// value.
func (n *node) running(t *testing.T, ended chan error) (id string) {
	t.Helper()
	within(t, 100*time.Second, "kubelet's pod", func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("kubelet: %v", err)
		default:
		}
		r, err := n.rt.ListContainers(n.ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}}})
		if err != nil {
			return err
		}
		if len(r.Containers) != 1 {
			return fmt.Errorf("%d containers run", len(r.Containers))
		}
		id = r.Containers[0].Id
		return nil
	})
	return id
}

// removeAll removes all pods.
func (n *node) removeAll(t *testing.T) {
	t.Helper()
	r, err := n.rt.ListPodSandbox(n.ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Error(err)
	}
	for _, p := range r.GetItems() {
		if _, err := n.rt.StopPodSandbox(n.ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			t.Error(err)
		}
		if _, err := n.rt.RemovePodSandbox(n.ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			t.Error(err)
		}
	}
}

func onlyOne(t *testing.T, patterns ...string) string {
	t.Helper()
	var all []string
	for _, p := range patterns {
		found, _ := filepath.Glob(p)
		all = append(all, found...)
	}
	if len(all) != 1 {
		t.Fatalf("want one of %q, found %q", patterns, all)
	}
	return all[0]
}

func get(url string) ([]byte, error) {
	r, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	return io.ReadAll(r.Body)
}
