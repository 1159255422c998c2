package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/linux"
)

const pauseImage = "example.test/pause:install"

// node is a real containerd that something starts again when it ends, and an installer for it.
type node struct {
	*testing.T
	d    *daemon.Daemon
	dir  string
	o    Options
	conn *grpc.ClientConn
	// before is containerd's main file as it was.
	before string
}

func newNode(t *testing.T, version string) *node {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc")
	bin := testenv.Bin(t)
	d := daemon.Test(t, version, daemon.Options{CRI: &daemon.CRI{PauseImage: pauseImage, CNIBin: "/nonexistent", CNIConf: "/nonexistent"}})
	n := &node{T: t, d: d, dir: filepath.Dir(d.Address)}
	n.o = Options{
		Dir: filepath.Join(n.dir, "hachi"), From: bin, Version: "v1", Socket: d.Address, Restart: RestartSignal,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Timeout: 30 * time.Second,
	}
	n.before = n.config()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		supervise(ctx, d)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return n
}

// supervise starts containerd again when it has ended, as a service manager does.
func supervise(ctx context.Context, d *daemon.Daemon) {
	for ctx.Err() == nil {
		if unix.Kill(d.PID(), 0) != nil {
			_ = d.Start(ctx) // with a configuration it does not take it ends again
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (n *node) main() string { return filepath.Join(n.dir, "config.toml") }

func (n *node) config() string {
	n.Helper()
	raw, err := os.ReadFile(n.main())
	if err != nil {
		n.Fatal(err)
	}
	return string(raw)
}

func (n *node) setConfig(text string) {
	n.Helper()
	if err := os.WriteFile(n.main(), []byte(text), 0o600); err != nil {
		n.Fatal(err)
	}
}

func (n *node) installer() *Installer {
	n.Helper()
	i, err := New(n.o)
	if err != nil {
		n.Fatal(err)
	}
	return i
}

func (n *node) install() {
	n.Helper()
	if err := n.installer().Install(n.Context()); err != nil {
		n.Fatal(err)
	}
}

func (n *node) status() *Status {
	n.Helper()
	s, err := n.installer().Status(n.Context())
	if err != nil {
		n.Fatal(err)
	}
	return s
}

func (n *node) runtime() cri.RuntimeServiceClient {
	n.Helper()
	if n.conn == nil {
		conn, err := grpc.NewClient("unix://"+n.d.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			n.Fatal(err)
		}
		n.Cleanup(func() { conn.Close() })
		n.conn = conn
	}
	return cri.NewRuntimeServiceClient(n.conn)
}

// pod starts a sandbox in the host's network and returns its id.
func (n *node) pod() string {
	n.Helper()
	img, err := linux.Image([]linux.File{{Path: "pause", Data: "never run"}}, v1.Config{Entrypoint: []string{"/pause"}})
	if err != nil {
		n.Fatal(err)
	}
	archive := filepath.Join(n.TempDir(), "pause.tar")
	if err := linux.Archive(img, pauseImage, archive); err != nil {
		n.Fatal(err)
	}
	if _, err := n.d.Ctr(n.Context(), "-n", "k8s.io", "image", "import", archive); err != nil {
		n.Fatal(err)
	}
	var id string
	n.eventually("pod", func() error {
		r, err := n.runtime().RunPodSandbox(n.Context(), &cri.RunPodSandboxRequest{RuntimeHandler: "hachi", Config: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "bee", Uid: "bee", Namespace: "hive"},
			Linux: &cri.LinuxPodSandboxConfig{CgroupParent: "/" + n.d.Mark(), SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}},
		}})
		id = r.GetPodSandboxId()
		return err
	})
	return id
}

func (n *node) removePod(id string) {
	n.Helper()
	if _, err := n.runtime().StopPodSandbox(n.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		n.Error(err)
	}
	if _, err := n.runtime().RemovePodSandbox(n.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		n.Error(err)
	}
}

func (n *node) eventually(what string, try func() error) {
	n.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	n.Fatalf("%s: %v", what, err)
}

func forEachVersion(t *testing.T, f func(n *node)) {
	for _, version := range daemon.Versions {
		t.Run(version, func(t *testing.T) { f(newNode(t, version)) })
	}
}

// The whole life of an installation under a real containerd.
func TestInstallUpgradeUninstall(t *testing.T) {
	forEachVersion(t, func(n *node) {
		pid := n.d.PID()
		n.install()
		if s := n.status(); !s.Ready() || !strings.HasPrefix(s.Build, "v1-") || s.Config != n.main() {
			n.Fatalf("after install: %+v", s)
		}
		if n.d.PID() == pid {
			n.Error("containerd was not restarted")
		}
		backup, err := os.ReadFile(n.main() + backupSuffix)
		if changed := n.config() != n.before; changed != (string(backup) == n.before) {
			n.Errorf("main file changed: %v; backup: %v", changed, err)
		}

		pid = n.d.PID()
		n.install()
		if n.d.PID() != pid {
			n.Error("a second install restarted containerd")
		}

		id := n.pod()
		n.o.Version = "v2"
		n.install()
		if s := n.status(); !s.Ready() || !strings.HasPrefix(s.Build, "v2-") || len(s.Pods) != 1 || s.Pods[0] != "hive/bee" {
			n.Errorf("after upgrade: %+v", s)
		}
		if n.d.PID() != pid {
			n.Error("an upgrade restarted containerd")
		}

		var busy *BusyError
		if err := n.installer().Uninstall(n.Context(), Removal{}); !errors.As(err, &busy) || !strings.Contains(err.Error(), "hive/bee (delete them first") {
			n.Errorf("uninstall under a running pod: %v", err)
		}
		if !n.status().Ready() {
			n.Error("the refusal changed something")
		}
		n.removePod(id)
		if err := n.installer().Uninstall(n.Context(), Removal{}); err != nil {
			n.Fatal(err)
		}
		if n.config() != n.before {
			n.Errorf("the main file is not what it was:\n%s", n.config())
		}
		for _, name := range []string{"hachi", "config.toml" + backupSuffix, "conf.d/hachi.toml"} {
			if _, err := os.Stat(filepath.Join(n.dir, name)); err == nil {
				n.Errorf("left behind: %s", name)
			}
		}
		if err := n.installer().Uninstall(n.Context(), Removal{}); err != nil {
			n.Errorf("uninstall of nothing: %v", err)
		}
	})
}

// What the operator set for CRI stays set: containerd 1.7 would forget it for a drop-in.
func TestOtherSettingsStay(t *testing.T) {
	forEachVersion(t, func(n *node) {
		n.install()
		r, err := n.runtime().Status(n.Context(), &cri.StatusRequest{Verbose: true})
		if err != nil {
			n.Fatal(err)
		}
		if config := r.Info["config"]; !strings.Contains(config, "/nonexistent") {
			n.Errorf("the folders of CNI are gone:\n%s", config)
		}
		if _, ok := n.live().Containerd.Runtimes["runc"]; !ok {
			n.Error("the runtime runc is gone")
		}
	})
}

func (n *node) live() criConfig {
	n.Helper()
	d, err := n.installer().ask(n.Context())
	if err != nil {
		n.Fatal(err)
	}
	return d.live
}

// Linux containers of a hachi pod are for the same runc, driven the same way, as the node's others.
func TestRuncOptionsAreTakenOver(t *testing.T) {
	forEachVersion(t, func(n *node) {
		plugin := "io.containerd.cri.v1.runtime"
		if strings.Contains(n.before, "version = 2") {
			plugin = "io.containerd.grpc.v1.cri"
		}
		options := "[plugins.'" + plugin + "'.containerd.runtimes.runc.options]\nSystemdCgroup = true\nBinaryName = '/usr/sbin/runc'\n"
		if !strings.Contains(n.before, "runtimes.runc]") {
			options = "[plugins.'" + plugin + "'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n" + options
		}
		n.setConfig(n.before + options)
		n.restart()
		n.install()
		got := n.live().Containerd.Runtimes["hachi"]
		if !got.flag("SystemdCgroup") || got.text("BinaryName") != "/usr/sbin/runc" {
			n.Errorf("got %+v", got)
		}
	})
}

func (n *node) restart() {
	n.Helper()
	i := n.installer()
	d, err := i.ask(n.Context())
	if err != nil {
		n.Fatal(err)
	}
	if err := i.restart(n.Context(), d); err != nil {
		n.Fatal(err)
	}
	if _, err := i.wait(n.Context(), d); err != nil {
		n.Fatal(err)
	}
}

func TestSandboxerShim(t *testing.T) {
	forEachVersion(t, func(n *node) {
		n.o.Sandboxer = "shim"
		err := n.installer().Install(n.Context())
		if strings.Contains(n.before, "version = 2") {
			if err == nil || !strings.Contains(err.Error(), "needs containerd 2") || n.config() != n.before {
				n.Errorf("got %v", err)
			}
			return
		}
		if err != nil {
			n.Fatal(err)
		}
		if got := n.live().Containerd.Runtimes["hachi"].Sandboxer; got != "shim" || !n.status().Ready() {
			n.Errorf("sandboxer %q", got)
		}
		n.o.Sandboxer = ""
		n.install()
		if got := n.live().Containerd.Runtimes["hachi"].Sandboxer; got != "podsandbox" {
			n.Errorf("sandboxer %q after it was taken back", got)
		}
	})
}

// Every way in which containerd may not come back with the runtime: the node is then as it was.
func TestRollback(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(n *node)
		says  string
	}{
		"restart command fails": {func(n *node) {
			n.o.RestartCommand = "echo the valve is stuck >&2; exit 3"
		}, "the valve is stuck"},
		"containerd does not come back": {func(n *node) {
			// The first restart does nothing; the one of the rollback works.
			n.o.RestartCommand = fmt.Sprintf("test -e %[1]s/tried && kill -TERM $(pgrep -f 'containerd --config %[1]s/config.toml' | head -1); touch %[1]s/tried", n.dir)
			n.o.Timeout = 3 * time.Second
		}, "no answer from a new one after 3s: the same process still serves"},
		"containerd reads another file": {func(n *node) {
			other := filepath.Join(n.dir, "other", "config.toml")
			write(n.T, n.dir, "other/config.toml", n.before)
			n.o.Config = other
		}, "does not know the runtime hachi after its restart"},
	} {
		t.Run(name, func(t *testing.T) {
			forEachVersion(t, func(n *node) {
				c.spoil(n)
				err := n.installer().Install(n.Context())
				if err == nil || !strings.Contains(err.Error(), c.says) {
					n.Fatalf("got %v; want it to say %q", err, c.says)
				}
				if n.config() != n.before {
					n.Errorf("the main file stayed changed:\n%s", n.config())
				}
				for _, left := range []string{"hachi/bin", "conf.d/hachi.toml", "other/conf.d/hachi.toml"} {
					if _, err := os.Lstat(filepath.Join(n.dir, left)); err == nil {
						n.Errorf("left behind: %s", left)
					}
				}
				if left, err := os.ReadDir(filepath.Join(n.dir, "hachi/versions")); err == nil && len(left) > 0 {
					n.Errorf("programs left behind: %v", left)
				}
				n.o.RestartCommand, n.o.Config, n.o.Timeout = "", "", 30*time.Second
				n.eventually("containerd", func() error {
					_, err := n.installer().ask(n.Context())
					return err
				})
				n.install()
				if !n.status().Ready() {
					n.Error("a later install does not work")
				}
			})
		})
	}
}

// A configuration that containerd itself does not take never gets as far as the restart.
func TestValidationBeforeRestart(t *testing.T) {
	forEachVersion(t, func(n *node) {
		n.setConfig(n.before + "[plugins.'io.containerd.gc.v1.scheduler']\npause_threshold = 'much'\n")
		pid := n.d.PID()
		err := n.installer().Install(n.Context())
		if err == nil || !strings.Contains(err.Error(), "config dump") || !strings.Contains(err.Error(), "\ncontainerd: ") {
			n.Errorf("got %v", err)
		}
		if n.d.PID() != pid || !strings.HasPrefix(n.config(), n.before) || strings.Contains(n.config(), "hachi node") {
			n.Error("containerd or its configuration was touched")
		}
	})
}

func TestNoWayToRestart(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd runs on this machine")
	}
	n := newNode(t, daemon.Versions[0])
	n.o.Restart = RestartAuto
	err := n.installer().Install(n.Context())
	if err == nil || !strings.Contains(err.Error(), "systemd does not run on this host (give --restart=signal") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(n.o.Dir); err == nil || n.config() != n.before {
		t.Error("something was done before the question was asked")
	}
}

func TestForceKeepsWhatPodsNeed(t *testing.T) {
	forEachVersion(t, func(n *node) {
		n.install()
		id := n.pod()
		if err := n.installer().Uninstall(n.Context(), Removal{Force: true}); err != nil {
			n.Fatal(err)
		}
		if s := n.status(); s.Serves || s.Build == "" {
			n.Errorf("got %+v", s)
		}
		n.removePod(id)
		// The pod's server ends a moment after its pod.
		n.eventually("programs gone", func() error {
			if err := n.installer().Uninstall(n.Context(), Removal{}); err != nil {
				return err
			}
			if _, err := os.Stat(n.o.Dir); err == nil {
				return errors.New("the programs stayed after the last pod")
			}
			return nil
		})
	})
}

func TestRefusesOtherSockets(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		says   string
	}{
		"no socket":       {func(o *Options) { o.Socket = "/nonexistent/c.sock" }, "name another with --socket"},
		"unknown restart": {func(o *Options) { o.Restart = "hope" }, "want auto, systemd or signal"},
		"relative":        {func(o *Options) { o.Dir = "opt" }, "not an absolute path"},
		"root":            {func(o *Options) { o.Dir = "/" }, "a folder of hachi's own"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Dir: t.TempDir(), From: t.TempDir()}
			c.change(&o)
			i, err := New(o)
			if err == nil {
				err = i.Install(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v; want it to say %q", err, c.says)
			}
		})
	}
}
