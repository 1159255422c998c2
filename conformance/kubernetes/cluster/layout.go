// Package cluster is Kubernetes on one machine: etcd and the control plane as processes of the host, and nodes, each
// in namespaces of its own (pid, mount, network, UTS, IPC) with its own root file system, containerd and kubelet, joined
// by a bridge.
//
// Everything is made to be taken away: all processes are in the cgroups below Name, all files below bin/.cluster (the
// dot keeps the go command from looking for packages on the nodes' disks), all mounts in namespaces that end with their
// processes, and the one thing in the host's network is the bridge.
package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hachi-run/hachi/internal/testenv"
)

// Name is that of the cgroups.
const Name = "hachi-cluster"

// The addresses. The bridge's network is from the middle of 172.16.0.0/12, which few machines use.
const (
	bridgeName  = "hachi0"
	hostIP      = "172.30.99.1"
	hostCIDR    = hostIP + "/24"
	podCIDR     = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
	kubernetes  = "10.96.0.1" // the first of serviceCIDR is the API's
	dnsIP       = "10.96.0.10"

	apiURL  = "https://" + hostIP + ":6443"
	etcdURL = "https://" + hostIP + ":2379"

	// Registry is what image names begin with, on the host and on the nodes, where containerd knows it as a
	// mirror at the bridge's address.
	Registry     = "localhost:5050"
	registryPort = "5050"
)

// The versions of what conformance/tools pins; the folders in bin/tools bear them.
const (
	kubernetesTools = "kubernetes-1.36.0"
	etcdTools       = "etcd-3.6.5"
	cniTools        = "cni-plugins-1.8.0"
	coreDNSTools    = "coredns-1.13.1"
	metricsTools    = "metrics-server-0.7.2"
	containerdTools = "containerd-2.4.2"
)

// Layout knows where things are.
type Layout struct {
	// Top is the source tree.
	Top string
}

// Find returns the layout of the source tree that the working directory, or this program, is in.
func Find() (Layout, error) {
	top, err := testenv.Source()
	if err == nil {
		return Layout{top}, nil
	}
	exe, exeErr := os.Executable()
	if exeErr != nil {
		return Layout{}, err
	}
	for d := filepath.Dir(exe); d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, statErr := os.Stat(filepath.Join(d, "conformance/kubernetes/go.mod")); statErr == nil {
			return Layout{d}, nil
		}
	}
	return Layout{}, err
}

// Bin is the folder of the product's binaries.
func (l Layout) Bin() string { return filepath.Join(l.Top, "bin") }

// Tool is a file below bin/tools.
func (l Layout) Tool(parts ...string) string {
	return filepath.Join(append([]string{l.Bin(), "tools"}, parts...)...)
}

// State is a file of the cluster's state.
func (l Layout) State(parts ...string) string {
	return filepath.Join(append([]string{l.Bin(), ".cluster"}, parts...)...)
}

// Kubeconfig is the administrator's.
func (l Layout) Kubeconfig() string { return l.State("kubeconfig") }

// Log is the log file of a part, such as "kube-apiserver" or "node1-kubelet".
func (l Layout) Log(part string) string { return l.State("log", part+".log") }

// readPID returns the process id in a file of the state.
func (l Layout) readPID(parts ...string) (int, error) {
	file := l.State(parts...)
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return pid, nil
}

func (l Layout) writePID(pid int, parts ...string) error {
	return os.WriteFile(l.State(parts...), []byte(strconv.Itoa(pid)), 0o644)
}

// machine is one node: its number, from 1, decides its name and addresses.
type machine int

func (m machine) name() string { return fmt.Sprintf("node%d", int(m)) }
func (m machine) ip() string   { return fmt.Sprintf("172.30.99.%d", 10+int(m)) }
func (m machine) pods() string { return fmt.Sprintf("10.244.%d.0/24", int(m)) }
func (m machine) veth() string { return fmt.Sprintf("%sn%d", bridgeName, int(m)) }

// cgroup is where the pods of the node go, as kubelet names it.
func (m machine) cgroup() string { return "/" + Name + "/" + m.name() }

func machines(n int) []machine {
	all := make([]machine, n)
	for i := range all {
		all[i] = machine(i + 1)
	}
	return all
}
