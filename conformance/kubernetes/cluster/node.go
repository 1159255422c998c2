package cluster

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boot starts a node and keeps it: when its first process ends, all of its processes have, and it is started again
// over the same disk, as a machine that reboots.
func boot(k *keeper, l Layout, m machine, o Options) error {
	ended, err := power(k, l, m, o)
	if err != nil {
		return fmt.Errorf("start %s: %w (see %s)", m.name(), err, l.Log(m.name()))
	}
	go func() {
		for {
			status := <-ended
			fmt.Fprintf(os.Stderr, "%s: %s; starting it again\n", m.name(), describe(status))
			for {
				time.Sleep(time.Second)
				if ended, err = power(k, l, m, o); err == nil {
					break
				}
				fmt.Fprintf(os.Stderr, "%s: %v\n", m.name(), err)
			}
		}
	}()
	return nil
}

// power starts a node's first process in new namespaces and gives it its network.
func power(k *keeper, l Layout, m machine, o Options) (<-chan unix.WaitStatus, error) {
	log, err := os.OpenFile(l.Log(m.name()), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	wait, plugged, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer wait.Close()
	defer plugged.Close()
	cmd := exec.Command("/proc/self/exe", "node", "-node", strconv.Itoa(int(m)), "-nodes", strconv.Itoa(o.Nodes), "-hachi="+strconv.FormatBool(o.Hachi))
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = l.Top, log, log, []*os.File{wait}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	ended, err := k.start(cmd)
	if err != nil {
		return nil, err
	}
	err = plug(m, cmd.Process.Pid)
	if err == nil {
		_, err = plugged.Write([]byte{1})
	}
	if err == nil {
		err = l.writePID(cmd.Process.Pid, m.name(), "pid")
	}
	if err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return nil, err
	}
	return ended, nil
}

// Node is a node's first process: it makes itself at home and keeps containerd, kubelet and kube-proxy running.
// It returns only if it fails.
func Node(number int, o Options) error {
	l, err := Find()
	if err != nil {
		return err
	}
	m := machine(number)
	if _, err := io.ReadFull(os.NewFile(3, "plugged"), make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the network: %w", err)
	}
	if err := configureNetwork(m, machines(o.Nodes)); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(m.name())); err != nil {
		return err
	}
	if err := enterRoot(l, m, o); err != nil {
		return err
	}
	for key, value := range map[string]string{
		"net/ipv4/ip_forward": "1",
		// A reply between two pods on one bridge has to pass the service's address translation too.
		"net/bridge/bridge-nf-call-iptables": "1",
	} {
		if err := setSysctl(key, value); err != nil {
			return fmt.Errorf("set %s: %w", key, err)
		}
	}
	path := []string{nodeHachi + "/bin", filepath.Join(nodeTools, containerdTools), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	os.Clearenv()
	for key, value := range map[string]string{"PATH": strings.Join(path, ":"), "HOME": "/root"} {
		if err := os.Setenv(key, value); err != nil {
			return err
		}
	}
	k := newKeeper()
	for _, p := range nodePrograms(m) {
		p.log = filepath.Join(nodeLogs, m.name()+"-"+p.name+".log")
		if err := k.keep(p); err != nil {
			return err
		}
	}
	select {}
}

func nodePrograms(m machine) []program {
	kube := func(name string) string { return filepath.Join(nodeTools, kubernetesTools, name) }
	return []program{
		{name: "containerd", args: []string{filepath.Join(nodeTools, containerdTools, "containerd")}, pid: "/run/containerd/containerd.pid"},
		{name: "kubelet", args: []string{kube("kubelet"),
			"--config", "/etc/kubernetes/kubelet.yaml", "--kubeconfig", "/etc/kubernetes/kubelet.kubeconfig",
			"--hostname-override", m.name(), "--node-ip", m.ip(), "--v", "2",
		}},
		{name: "kube-proxy", args: []string{kube("kube-proxy"), "--config", "/etc/kubernetes/kube-proxy.yaml"}},
	}
}
