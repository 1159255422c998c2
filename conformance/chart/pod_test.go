package chart

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/linux"
)

const (
	pauseImage = "example.test/pause:chart"
	nodeImage  = "example.test/hachi-node:chart"
)

// node is a containerd that runs the installer as a pod, and that the installer is to configure. No kubelet is needed to
// see whether the image is complete and the chart's rights are enough.
type node struct {
	*testing.T
	d   *daemon.Daemon
	dir string
	rt  cri.RuntimeServiceClient
}

func newNode(t *testing.T, version string) *node {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc")
	bin := testenv.Bin(t)
	d := daemon.Test(t, version, daemon.Options{CRI: &daemon.CRI{PauseImage: pauseImage, CNIBin: "/nonexistent", CNIConf: "/nonexistent"}})
	n := &node{T: t, d: d, dir: filepath.Dir(d.Address)}

	pause, err := linux.Image([]linux.File{{Path: "bin/sh", From: testenv.NeedTool(t, "busybox")}}, v1.Config{Entrypoint: []string{"/bin/sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"}})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "pause.tar")
	if err := linux.Archive(pause, pauseImage, archive); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "node.tar")
	cmd := exec.CommandContext(t.Context(), "go", "run", "./charts/image", "-o", image, "-name", nodeImage, runtime.GOARCH+"="+bin)
	cmd.Dir = source(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, file := range []string{archive, image} {
		if _, err := d.Ctr(t.Context(), "-n", "k8s.io", "image", "import", file); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := grpc.NewClient("unix://"+d.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	n.rt = cri.NewRuntimeServiceClient(conn)

	// Something starts containerd again when it ends.
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if unix.Kill(d.PID(), 0) != nil {
				_ = d.Start(ctx)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return n
}

// installer runs a container as the chart describes it, with the host's root at /host, and returns what it logs when it
// has ended or said a word.
func (n *node) installer(capabilities []string, until string, args ...string) string {
	n.Helper()
	security := &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE}}
	logs := n.TempDir()
	sandbox := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "installer", Uid: fmt.Sprint(time.Now().UnixNano()), Namespace: "hive"}, LogDirectory: logs,
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: "/" + n.d.Mark(), SecurityContext: security},
	}
	var pod *cri.RunPodSandboxResponse
	n.eventually("installer's pod", func() (err error) {
		pod, err = n.rt.RunPodSandbox(n.Context(), &cri.RunPodSandboxRequest{Config: sandbox})
		return err
	})
	defer func() {
		n.eventually("end of the installer's pod", func() error {
			if _, err := n.rt.StopPodSandbox(n.Context(), &cri.StopPodSandboxRequest{PodSandboxId: pod.PodSandboxId}); err != nil {
				return err
			}
			_, err := n.rt.RemovePodSandbox(n.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: pod.PodSandboxId})
			return err
		})
	}()
	c, err := n.rt.CreateContainer(n.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.PodSandboxId, SandboxConfig: sandbox, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "installer"}, Image: &cri.ImageSpec{Image: nodeImage}, Args: args, LogPath: "log",
		Mounts: []*cri.Mount{{HostPath: "/", ContainerPath: "/host"}},
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			Capabilities: &cri.Capability{AddCapabilities: capabilities, DropCapabilities: []string{"ALL"}}, ReadonlyRootfs: true,
			NamespaceOptions: security.NamespaceOptions, Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
		}},
	}})
	if err != nil {
		n.Fatal(err)
	}
	// The installer may have containerd started again before containerd has answered.
	if _, err := n.rt.StartContainer(n.Context(), &cri.StartContainerRequest{ContainerId: c.ContainerId}); err != nil && status.Code(err) != codes.Unavailable {
		n.Fatal(err)
	}
	var said string
	n.eventually("installer", func() error {
		raw, err := os.ReadFile(filepath.Join(logs, "log"))
		said = string(raw)
		if err == nil && strings.Contains(said, until) {
			return nil
		}
		st, err := n.rt.ContainerStatus(n.Context(), &cri.ContainerStatusRequest{ContainerId: c.ContainerId})
		if err == nil && st.Status.State == cri.ContainerState_CONTAINER_EXITED {
			return nil
		}
		return fmt.Errorf("it said\n%s", said)
	})
	return said
}

func (n *node) eventually(what string, try func() error) {
	n.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	n.Fatalf("%s: %v", what, err)
}

// handlers are the runtimes that containerd knows.
func (n *node) handlers() string {
	n.Helper()
	var config string
	n.eventually("containerd", func() error {
		r, err := n.rt.Status(n.Context(), &cri.StatusRequest{Verbose: true})
		if err == nil {
			config = r.Info["config"]
		}
		return err
	})
	return config
}

// The installer as a pod, with the chart's rights, installs and uninstalls: by a signal, and by a command that it runs in
// the host's own namespaces.
func TestInstallerInAPod(t *testing.T) {
	for _, version := range daemon.Versions {
		for _, how := range []string{"signal", "command"} {
			t.Run(version+", "+how, func(t *testing.T) {
				if how == "command" {
					testenv.NeedTool(t, "nsenter")
					if _, err := os.Readlink("/proc/1/ns/mnt"); err != nil {
						t.Skipf("nobody may enter the namespaces of this machine's first process: %v (make test-chart tries it on a node of its own)", err)
					}
				}
				n := newNode(t, version)
				set, restart := "signal", "--restart=signal"
				if how == "command" {
					set, restart = "default", "--restart-command=test -e "+n.dir+"/config.toml && kill -TERM $(pgrep -o -f 'containerd --config "+n.dir+"/config.toml')"
				}
				capabilities := list(objects(t, set)["DaemonSet hachi-installer"], "add:")
				common := []string{"--host=/host", "--dir=" + n.dir + "/hachi", "--socket=" + n.d.Address, restart}
				before, err := os.ReadFile(filepath.Join(n.dir, "config.toml"))
				if err != nil {
					t.Fatal(err)
				}

				said := n.installer(capabilities, "done; staying", append([]string{"node", "install", "--stay=127.0.0.1:0"}, common...)...)
				if !strings.Contains(said, "done; staying") {
					t.Fatalf("install said\n%s", said)
				}
				if strings.Contains(said, "not checked before the restart") {
					t.Errorf("containerd's own check did not run:\n%s", said)
				}
				if config := n.handlers(); !strings.Contains(config, n.dir+"/hachi/bin/containerd-shim-hachi-v1") {
					t.Fatalf("containerd does not know the runtime:\n%s\nthe installer said\n%s", config, said)
				}
				said = n.installer(capabilities, "gone from this node", append([]string{"node", "uninstall"}, common...)...)
				if !strings.Contains(said, "gone from this node") {
					t.Fatalf("uninstall said\n%s", said)
				}
				after, err := os.ReadFile(filepath.Join(n.dir, "config.toml"))
				if err != nil || string(after) != string(before) {
					t.Errorf("the main file is not what it was: %v\n%s", err, after)
				}
				if _, err := os.Stat(filepath.Join(n.dir, "hachi")); err == nil {
					t.Error("programs were left behind")
				}
			})
		}
	}
}
