package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// upTime is how long a cluster may take to come up on a slow and busy machine.
const upTime = 6 * time.Minute

// Up leaves a cluster running in the background, ready to use, and prints where it is; its last two lines are
// KUBECONFIG=... and REGISTRY=.... Traces of a cluster that died are removed first. If it fails, or ctx ends
// meanwhile, nothing is left.
func Up(ctx context.Context, o Options, stdout io.Writer) error {
	l, err := ready(o)
	if err != nil {
		return err
	}
	if _, err := l.running(); err == nil {
		fmt.Fprintln(stdout, "cluster: runs already (make cluster-down ends it)")
		return l.say(stdout)
	}
	if err := down(l); err != nil {
		return err
	}
	if err := l.start(ctx, o, stdout); err != nil {
		return errors.Join(err, down(l))
	}
	return l.say(stdout)
}

// ready checks what a cluster needs of the machine.
func ready(o Options) (Layout, error) {
	l, err := Find()
	switch {
	case err != nil:
		return l, err
	case os.Geteuid() != 0:
		return l, errors.New("needs root for namespaces, cgroups and mounts (run sudo make cluster)")
	case o.Nodes < 1 || o.Nodes > maxNodes:
		return l, fmt.Errorf("%d nodes (1 to %d are possible)", o.Nodes, maxNodes)
	}
	need := []string{
		l.Tool(containerdTools, "containerd"), l.Tool(etcdTools, "server"), l.Tool(cniTools, "bridge"), l.Tool(kubernetesTools, "kubelet"),
		l.Tool(coreDNSTools, "coredns"), l.Tool(metricsTools, "metrics-server"),
	}
	if o.Hachi {
		need = append(need, l.Bin()+"/containerd-shim-hachi-v1", l.Bin()+"/hachi-shim", l.Bin()+"/hachi-engine", l.Bin()+"/hachi-linux")
	}
	for _, file := range need {
		if _, err := os.Stat(file); err != nil {
			return l, fmt.Errorf("%w (make cluster builds it)", err)
		}
	}
	for _, name := range []string{"runc", "nft", "gcc", "busybox"} {
		if _, err := exec.LookPath(name); err != nil {
			return l, fmt.Errorf("%w (make deps installs it)", err)
		}
	}
	return l, nil
}

func (l Layout) say(w io.Writer) error {
	_, err := fmt.Fprintf(w, "KUBECONFIG=%s\nREGISTRY=%s\n", l.Kubeconfig(), Registry)
	return err
}

// running returns the process id of the cluster if it lives.
func (l Layout) running() (int, error) {
	pid, err := l.readPID("pid")
	if err != nil {
		return 0, err
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return 0, err
	}
	// Another process may have got the number.
	if args := strings.Split(string(raw), "\x00"); len(args) < 2 || args[1] != "run" {
		return 0, fmt.Errorf("process %d is no cluster", pid)
	}
	return pid, nil
}

// keepDescriptors keeps what this process inherited beside its standard streams from its children: the cluster outlives its
// caller, whose lock would stay locked and whose pipe open for as long.
func keepDescriptors() error {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark inherited descriptors close-on-exec: %w", err)
	}
	return nil
}

// start starts the process that is the cluster, and copies what it says until it is ready.
func (l Layout) start(ctx context.Context, o Options, stdout io.Writer) error {
	if err := os.MkdirAll(l.State("log"), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(l.Log("cluster"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	said, err := os.Open(log.Name())
	if err != nil {
		return err
	}
	defer said.Close()
	cmd := exec.Command("/proc/self/exe", "run", "-nodes", strconv.Itoa(o.Nodes), "-hachi="+strconv.FormatBool(o.Hachi))
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.Top, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: unix.CLONE_NEWNS}
	if err := keepDescriptors(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := l.writePID(cmd.Process.Pid, "pid"); err != nil {
		return errors.Join(err, cmd.Process.Kill(), <-ended)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upTime, fmt.Errorf("not ready after %v (see %s)", upTime, l.State("log")))
	defer cancel()
	for {
		_, done := os.Stat(l.State("ready"))
		if _, err := io.Copy(stdout, said); err != nil || done == nil {
			return err
		}
		select {
		case err := <-ended:
			_, _ = io.Copy(stdout, said)
			return fmt.Errorf("ended before it was ready: %w", err)
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), cmd.Process.Kill(), <-ended)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
