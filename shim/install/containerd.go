package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/shim/install/conf"
)

// containerd is a running containerd, as kubelet sees it and as a process.
type containerd struct {
	// pid and started identify the process; started is in clock ticks since boot.
	pid     int
	started string
	// version is for example "2.4.2"; major is its first number.
	version string
	major   int
	// live are CRI's settings, as loaded.
	live criConfig
}

// criConfig is CRI's verbose status. The names are the same in containerd 1.7 and 2.
type criConfig struct {
	Containerd struct {
		DefaultRuntimeName string                   `json:"defaultRuntimeName"`
		Runtimes           map[string]handlerConfig `json:"runtimes"`
	} `json:"containerd"`
}

type handlerConfig struct {
	Type           string         `json:"runtimeType"`
	Path           string         `json:"runtimePath"`
	PodAnnotations []string       `json:"PodAnnotations"`
	Sandboxer      string         `json:"sandboxer"`
	Options        map[string]any `json:"options"`
}

// text is an option that is a string.
func (h handlerConfig) text(name string) string { s, _ := h.Options[name].(string); return s }

// flag is an option that is true or false.
func (h handlerConfig) flag(name string) bool { b, _ := h.Options[name].(bool); return b }

// knows tells whether the containerd that runs would use the runtime as wanted.
func (d *containerd) knows(r conf.Runtime) bool {
	h, ok := d.live.Containerd.Runtimes[r.Handler]
	return ok && h.Type == conf.Type && h.Path == r.Path && slices.Contains(h.PodAnnotations, "hachi.run/*") &&
		(h.Sandboxer == "shim") == (r.Sandboxer == "shim") &&
		h.flag("SystemdCgroup") == r.SystemdCgroup && h.text("BinaryName") == r.RuncBinary
}

// runc is what Linux containers get on this node: the handler runc, else the default one.
func (d *containerd) runc() handlerConfig {
	all := d.live.Containerd
	if h, ok := all.Runtimes["runc"]; ok {
		return h
	}
	if h := all.Runtimes[all.DefaultRuntimeName]; h.Type == "io.containerd.runc.v2" {
		return h
	}
	return handlerConfig{}
}

// dial opens a connection to containerd; close it.
func (i *Installer) dial() (*grpc.ClientConn, error) {
	at, err := i.host.At(i.o.Socket)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("unix://"+at, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// askTime bounds one question to containerd.
const askTime = 15 * time.Second

// ask asks the containerd that runs now.
func (i *Installer) ask(ctx context.Context) (*containerd, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	d := &containerd{}
	var err error
	if d.pid, err = i.peer(); err != nil {
		return nil, fmt.Errorf("ask containerd: %s: %w (is it containerd's socket? name another with --socket)", i.o.Socket, err)
	}
	if d.pid == 0 {
		return nil, errors.New("ask containerd: its process is not visible (the pod needs hostPID: true)")
	}
	d.started = startTime(d.pid)
	conn, err := i.dial()
	if err != nil {
		return nil, fmt.Errorf("ask containerd: %w", err)
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	v, err := client.Version(ctx, &runtimeapi.VersionRequest{})
	if status.Code(err) == codes.Unimplemented {
		return nil, fmt.Errorf("ask containerd: CRI is off (take cri out of disabled_plugins in %s)", i.o.Config)
	}
	if err != nil {
		return nil, fmt.Errorf("ask containerd: %w", err)
	}
	if v.GetRuntimeName() != "containerd" {
		return nil, fmt.Errorf("ask containerd: %s is %s's socket (hachi runs below containerd)", i.o.Socket, v.GetRuntimeName())
	}
	d.version = strings.TrimPrefix(v.GetRuntimeVersion(), "v")
	first, _, _ := strings.Cut(d.version, ".")
	if d.major, err = strconv.Atoi(first); err != nil {
		return nil, fmt.Errorf("ask containerd: version %q: not understood", d.version)
	}
	reply, err := client.Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return nil, fmt.Errorf("ask containerd: %w", err)
	}
	if err := json.Unmarshal([]byte(reply.GetInfo()["config"]), &d.live); err != nil {
		return nil, fmt.Errorf("ask containerd: CRI's settings: %w", err)
	}
	return d, nil
}

// pods are the names of the pods that a handler runs, as namespace/name.
func (i *Installer) pods(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conn, err := i.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reply, err := runtimeapi.NewRuntimeServiceClient(conn).ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var out []string
	for _, s := range reply.GetItems() {
		if s.GetRuntimeHandler() == i.o.Handler && s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY {
			out = append(out, s.GetMetadata().GetNamespace()+"/"+s.GetMetadata().GetName())
		}
	}
	slices.Sort(out)
	return out, nil
}

// peer is the process that listens on containerd's socket: 0 when it is in a pid namespace that cannot be seen from here.
func (i *Installer) peer() (int, error) {
	at, err := i.host.At(i.o.Socket)
	if err != nil {
		return 0, err
	}
	c, err := net.Dial("unix", at)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// startTime tells processes apart that had the same pid; see proc_pid_stat(5), field 22.
func startTime(pid int) string {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The command, field 2, may hold spaces and brackets.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

// configFlag is the file that containerd was started with; empty when its command line names none.
func configFlag(pid int) string {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
	for n, a := range args {
		switch name, value, assigned := strings.Cut(a, "="); name {
		case "-c", "--c", "-config", "--config":
			if assigned {
				return value
			}
			if n+1 < len(args) {
				return args[n+1]
			}
		}
	}
	return ""
}
