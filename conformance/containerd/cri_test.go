package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/cni"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/linux"
)

const pauseImage = "example.test/pause:test"

// node is a containerd as a kubelet sees it.
type node struct {
	*world
	rt      cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	handler string
}

// forEachPod runs f for every version, kind and way to make a sandbox.
func forEachPod(t *testing.T, f func(t *testing.T, n *node)) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc")
	for _, version := range strings.Split(*versionsFlag, ",") {
		t.Run(version, func(t *testing.T) {
			n := newNode(t, version)
			for _, k := range wanted() {
				handlers := []string{"runc"}
				if k.hachi() {
					handlers = []string{"hachi"}
					if !strings.HasPrefix(version, "1.") {
						// No pause image, and the sandbox service of the shim instead.
						handlers = append(handlers, "hachi-sandbox")
					}
				}
				for _, handler := range handlers {
					name := k.name
					if handler == "hachi-sandbox" {
						name += ", sandboxer shim"
					}
					t.Run(name, func(t *testing.T) {
						w := *n.world
						w.kind = k
						n := &node{&w, n.rt, n.images, handler}
						w.clean(t)
						f(t, n)
					})
				}
			}
		})
	}
}

func newNode(t *testing.T, version string) *node {
	t.Helper()
	dir := testenv.ShortDir(t)
	bin, conf, err := cni.Install(dir, guest.Built(t, guest.Linux, cni.Plugin))
	if err != nil {
		t.Fatal(err)
	}
	c := &daemon.CRI{PauseImage: pauseImage, CNIBin: bin, CNIConf: conf}
	o := daemon.Options{CRI: c}
	if hachiWanted() {
		o.Path = []string{testenv.Bin(t)}
		c.Handlers = map[string]string{"hachi": "io.containerd.hachi.v1"}
		if !strings.HasPrefix(version, "1.") {
			c.Extra = `[plugins.'io.containerd.cri.v1.runtime'.containerd]
# For pods from files, which cannot name a RuntimeClass.
default_runtime_name = 'hachi'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.hachi-sandbox]
runtime_type = 'io.containerd.hachi.v1'
sandboxer = 'shim'
disable_pause_image_pull = true
pod_annotations = ['hachi.run/*']
container_annotations = ['hachi.run/*']
`
		}
	}
	d := daemon.Test(t, version, o)
	conn, err := grpc.NewClient("unix://"+d.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w := &world{d: d, version: version, dir: filepath.Dir(d.Address), ctx: context.Background()}
	names := []string{linuxImage} // every pod has a Linux container
	for _, k := range wanted() {
		names = append(names, k.image)
	}
	w.importImages(t, "k8s.io", names...)
	pause, err := linux.Image([]linux.File{{Path: "pause", From: guest.Built(t, guest.Linux, "conformance/containerd/probe")}},
		v1.Config{Entrypoint: []string{"/pause", "ready"}})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(w.dir, "pause.tar")
	if err := linux.Archive(pause, pauseImage, archive); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Ctr(w.ctx, "-n", "k8s.io", "image", "import", archive); err != nil {
		t.Fatal(err)
	}
	n := &node{world: w, rt: cri.NewRuntimeServiceClient(conn), images: cri.NewImageServiceClient(conn)}
	n.seen(t, pauseImage)
	return n
}

// seen waits until CRI has an image: it learns of imported ones by event.
func (n *node) seen(t *testing.T, image string) {
	t.Helper()
	eventually(t, "image in CRI", func() error {
		st, err := n.images.ImageStatus(n.ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
		if err == nil && st.Image == nil {
			err = fmt.Errorf("no %s", image)
		}
		return err
	})
}

// pod is a sandbox; everything in it goes when the test ends.
type pod struct {
	n      *node
	id     string
	config *cri.PodSandboxConfig
	logs   string
}

func (n *node) pod(t *testing.T, annotations map[string]string) *pod {
	t.Helper()
	name := fmt.Sprintf("p%d", serial.Add(1))
	return n.podBelow(t, name, "/"+n.d.Mark()+"/"+name, annotations)
}

// podBelow is a pod whose cgroup is parent, which goes with it.
func (n *node) podBelow(t *testing.T, name, parent string, annotations map[string]string) *pod {
	t.Helper()
	p := &pod{n: n, logs: t.TempDir()}
	p.config = &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"}, Hostname: "beehive", LogDirectory: p.logs,
		Annotations: annotations, DnsConfig: &cri.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"svc.cluster.local"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    parent,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}
	r, err := n.rt.RunPodSandbox(n.ctx, &cri.RunPodSandboxRequest{Config: p.config, RuntimeHandler: n.handler})
	if err != nil {
		t.Fatalf("run pod sandbox: %v", err)
	}
	p.id = r.PodSandboxId
	t.Cleanup(func() {
		if _, err := n.rt.StopPodSandbox(n.ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Errorf("stop pod: %v", err)
		}
		if _, err := n.rt.RemovePodSandbox(n.ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Errorf("remove pod: %v", err)
		}
		daemon.RemoveCgroups(strings.TrimPrefix(parent, "/")) // the kubelet's to make and to remove
	})
	return p
}

func (p *pod) start(t *testing.T, name, image string, memory int64, args ...string) string {
	t.Helper()
	id, err := p.tryStart(name, image, memory, args...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p *pod) tryStart(name, image string, memory int64, args ...string) (string, error) {
	r, err := p.n.rt.CreateContainer(p.n.ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: image}, Args: args, LogPath: name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{MemoryLimitInBytes: memory, CpuShares: 100},
			SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions},
		},
	}})
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", name, err)
	}
	if _, err := p.n.rt.StartContainer(p.n.ctx, &cri.StartContainerRequest{ContainerId: r.ContainerId}); err != nil {
		return "", fmt.Errorf("start container %s: %w", name, err)
	}
	return r.ContainerId, nil
}

func (p *pod) logged(t *testing.T, name, text string) {
	t.Helper()
	eventually(t, "log of "+name, func() error {
		raw, err := os.ReadFile(filepath.Join(p.logs, name+".log"))
		if err == nil && !strings.Contains(string(raw), text) {
			err = fmt.Errorf("%q is not in %q", text, raw)
		}
		return err
	})
}

func (n *node) status(t *testing.T, id string) *cri.ContainerStatus {
	t.Helper()
	r, err := n.rt.ContainerStatus(n.ctx, &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status
}

func (n *node) exited(t *testing.T, id string) *cri.ContainerStatus {
	t.Helper()
	var st *cri.ContainerStatus
	eventually(t, "exit", func() error {
		if st = n.status(t, id); st.State != cri.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("%v", st.State)
		}
		return nil
	})
	return st
}

func (n *node) exec(t *testing.T, id string, args ...string) *cri.ExecSyncResponse {
	t.Helper()
	r, err := n.rt.ExecSync(n.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: args, Timeout: 20})
	if err != nil {
		t.Fatalf("exec %q: %v", args, err)
	}
	return r
}

// TestPod runs the kind's container beside a Linux container, as a pod with a sidecar does.
func TestPod(t *testing.T) {
	forEachPod(t, func(t *testing.T, n *node) {
		p := n.pod(t, map[string]string{"hachi.run/test": "yes"})
		main := p.start(t, "main", n.image, 256<<20, "ready")
		side := p.start(t, "side", linuxImage, 64<<20, "ready")
		p.logged(t, "main", "stdout F ready")
		p.logged(t, "side", "stdout F ready")
		for _, id := range []string{main, side} {
			if st := n.status(t, id); st.State != cri.ContainerState_CONTAINER_RUNNING {
				t.Errorf("%s: %v", st.Metadata.Name, st.State)
			}
		}
		if r := n.exec(t, main, n.entry, "both", "out", "err"); r.ExitCode != 0 || string(r.Stdout) != "out" || string(r.Stderr) != "err" {
			t.Errorf("exec in main: %+v", r)
		}
		if r := n.exec(t, side, "/bin/probe", "exit", "5"); r.ExitCode != 5 {
			t.Errorf("exec in side: %+v", r)
		}
		for _, id := range []string{main, side} {
			entry := map[string]string{main: n.entry, side: "/bin/probe"}[id]
			if r := n.exec(t, id, entry, "read", "/etc/resolv.conf"); !strings.Contains(string(r.Stdout), "192.0.2.53") {
				t.Errorf("the pod's name server is not in /etc/resolv.conf: %+v", r)
			}
		}
		n.stats(t, p, main)

		if _, err := n.rt.StopContainer(n.ctx, &cri.StopContainerRequest{ContainerId: main, Timeout: 10}); err != nil {
			t.Errorf("stop container: %v", err)
		}
		if st := n.status(t, main); st.ExitCode != 143 || st.Reason != "Error" {
			t.Errorf("want exit code 143 after SIGTERM, got %d %s", st.ExitCode, st.Reason)
		}
		if st := n.status(t, side); st.State != cri.ContainerState_CONTAINER_RUNNING {
			t.Errorf("the sidecar should not mind: %v", st.State)
		}
		if _, err := n.rt.RemoveContainer(n.ctx, &cri.RemoveContainerRequest{ContainerId: main}); err != nil {
			t.Error(err)
		}
		again := p.start(t, "again", n.image, 0, "exit", "0")
		if st := n.exited(t, again); st.ExitCode != 0 || st.Reason != "Completed" {
			t.Errorf("restarted container: %d %s", st.ExitCode, st.Reason)
		}
	})
}

func (n *node) stats(t *testing.T, p *pod, id string) {
	t.Helper()
	eventually(t, "container stats", func() error {
		r, err := n.rt.ContainerStats(n.ctx, &cri.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			return err
		}
		if r.Stats.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || r.Stats.GetMemory().GetWorkingSetBytes().GetValue() == 0 {
			return fmt.Errorf("%v", r.Stats)
		}
		return nil
	})
	eventually(t, "pod stats", func() error {
		r, err := n.rt.PodSandboxStats(n.ctx, &cri.PodSandboxStatsRequest{PodSandboxId: p.id})
		if err != nil {
			return err
		}
		l := r.Stats.GetLinux()
		if l.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || l.GetMemory().GetWorkingSetBytes().GetValue() == 0 || len(l.GetContainers()) != 2 {
			return fmt.Errorf("%v", l)
		}
		return nil
	})
}

// TestPodBelowSlice has the cgroup paths of a kubelet whose driver is systemd: a slice within a slice, and in it a scope
// for each container. The figures are those of the kernel, and no group is left.
func TestPodBelowSlice(t *testing.T) {
	forEachPod(t, func(t *testing.T, n *node) {
		if !n.wasm() {
			t.Skip("for a Linux container's slice runc asks systemd, which does not run here")
		}
		name := fmt.Sprintf("p%d", serial.Add(1))
		outer := n.d.Mark() + ".slice"
		parent := "/" + outer + "/" + n.d.Mark() + "-" + name + ".slice"
		defer daemon.RemoveCgroups(outer)
		t.Run("pod", func(t *testing.T) { // ends before outer is removed
			p := n.podBelow(t, name, parent, nil)
			id := p.start(t, "main", n.image, 64<<20, "ready")
			p.logged(t, "main", "ready")
			group := parent + "/cri-containerd-" + id + ".scope"
			if r := n.exec(t, id, n.entry, "both", "out", "err"); r.ExitCode != 0 { // costs processor time
				t.Errorf("exec: %+v", r)
			}
			if got := figure(t, group, "memory", "memory.limit_in_bytes", "memory.max"); got != 64<<20 {
				t.Errorf("the scope's memory limit is %d", got)
			}
			// containerd keeps its reading for a second.
			eventually(t, "the scope's processor time in the container's and the pod's figures", func() error {
				least := scopeCPU(t, group)
				c, err := n.rt.ContainerStats(n.ctx, &cri.ContainerStatsRequest{ContainerId: id})
				if err != nil {
					return err
				}
				s, err := n.rt.PodSandboxStats(n.ctx, &cri.PodSandboxStatsRequest{PodSandboxId: p.id})
				if err != nil {
					return err
				}
				of, all := c.Stats.GetCpu().GetUsageCoreNanoSeconds().GetValue(), s.Stats.GetLinux().GetCpu().GetUsageCoreNanoSeconds().GetValue()
				most, limit := scopeCPU(t, parent), uint64(64<<20)
				if of < least || all < of || most < all {
					return fmt.Errorf("scope %d ns <= container %d <= pod %d <= slice %d is wanted", least, of, all, most)
				}
				if m := c.Stats.GetMemory().GetWorkingSetBytes().GetValue(); m == 0 || m > limit {
					return fmt.Errorf("working set of %d bytes", m)
				}
				return nil
			})
		})
	})
}

// scopeCPU is what the kernel says a group used, in nanoseconds.
func scopeCPU(t *testing.T, group string) uint64 {
	t.Helper()
	used := figure(t, group, "cpuacct", "cpuacct.usage", "cpu.stat")
	if cgroups.Mode() == cgroups.Unified {
		used *= 1000 // the file has microseconds
	}
	return used
}

// figure reads a number from a group's file, of a v1 controller or of cgroup2: all that the file has, or its first value.
func figure(t *testing.T, group, controller, v1, v2 string) uint64 {
	t.Helper()
	file := filepath.Join("/sys/fs/cgroup", controller, group, v1)
	if cgroups.Mode() == cgroups.Unified {
		file = filepath.Join("/sys/fs/cgroup", group, v2)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw))
	number := fields[0]
	if len(fields) > 1 {
		number = fields[1]
	}
	value, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return value
}

func TestPodOutOfMemory(t *testing.T) {
	forEachPod(t, func(t *testing.T, n *node) {
		p := n.pod(t, nil)
		id := p.start(t, "eater", n.image, 64<<20, "eat", "300")
		if st := n.exited(t, id); st.ExitCode != 137 || st.Reason != "OOMKilled" {
			t.Errorf("want 137 OOMKilled, got %d %s", st.ExitCode, st.Reason)
		}
	})
}

func TestPodSurvivesContainerdRestart(t *testing.T) {
	forEachPod(t, func(t *testing.T, n *node) {
		p := n.pod(t, nil)
		id := p.start(t, "main", n.image, 0, "ready")
		p.logged(t, "main", "ready")
		if err := n.d.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.d.Start(n.ctx); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pod after the restart", func() error {
			r, err := n.rt.PodSandboxStatus(n.ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
			if err == nil && r.Status.State != cri.PodSandboxState_SANDBOX_READY {
				err = fmt.Errorf("%v", r.Status.State)
			}
			return err
		})
		if st := n.status(t, id); st.State != cri.ContainerState_CONTAINER_RUNNING {
			t.Fatalf("after the restart the container is %v", st.State)
		}
		if r := n.exec(t, id, n.entry, "exit", "4"); r.ExitCode != 4 {
			t.Errorf("exec after the restart: %+v", r)
		}
		begin := time.Now()
		if _, err := n.rt.StopContainer(n.ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 0}); err != nil {
			t.Error(err)
		}
		if st := n.exited(t, id); st.ExitCode != 137 {
			t.Errorf("want exit code 137, got %d after %v", st.ExitCode, time.Since(begin))
		}
	})
}
