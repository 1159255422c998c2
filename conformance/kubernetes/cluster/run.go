package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/linux"
)

// maxNodes is bound by nothing but the size of the machine.
const maxNodes = 9

// Options say what a cluster has.
type Options struct {
	// Nodes is their number, 1 to 9.
	Nodes int
	// Hachi says that nodes find hachi's binaries, that containerd has the handler and the cluster the RuntimeClass.
	Hachi bool
}

// Run is the cluster: it starts all parts and keeps them running until it is killed, which ends all of them. It
// runs in a mount namespace of its own.
func Run(_ context.Context, o Options) error {
	l, err := Find()
	if err != nil {
		return err
	}
	// Cancelling is not offered: whoever wants this to end kills it, at any point, and down clears up.
	ctx := context.Background()
	nodes := machines(o.Nodes)
	busybox, err := linux.Busybox() // before there is a keeper, which takes the end of every child
	if err != nil {
		return err
	}
	k := newKeeper()
	steps := []struct {
		say string
		do  func() error
	}{
		{"", func() error { return isolate(l, nodes) }},
		{"", func() error { return makeBridge(nodes) }},
		{"control plane", func() error { return startControl(k, l, o) }},
		{"images", func() error { return serveAndPush(k, l, busybox) }},
		{"nodes", func() error {
			for _, m := range nodes {
				if err := boot(k, l, m, o); err != nil {
					return err
				}
			}
			return nil
		}},
		{"API", func() error { return waitAPI(ctx, k, l) }},
		{"objects", func() error { return applyObjects(k, l, o) }},
		{"nodes ready", func() error { return waitReady(k, l) }},
	}
	for _, s := range steps {
		if s.say != "" {
			fmt.Printf("cluster: %s\n", s.say)
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	if err := os.WriteFile(l.State("ready"), nil, 0o644); err != nil {
		return err
	}
	select {}
}

// isolate puts this process where down finds it, and etcd's files into memory.
func isolate(l Layout, nodes []machine) error {
	if err := makeCgroups(nodes); err != nil {
		return err
	}
	if err := saveSysctls(l); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := os.MkdirAll(l.State("etcd"), 0o700); err != nil {
		return err
	}
	return unix.Mount("tmpfs", l.State("etcd"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700")
}

func startControl(k *keeper, l Layout, o Options) error {
	nodes := machines(o.Nodes)
	a, err := certify(l, nodes)
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	for _, m := range nodes {
		if err := rootFS(l, m, o); err != nil {
			return fmt.Errorf("make root of %s: %w", m.name(), err)
		}
		if err := configure(l, m, o, a); err != nil {
			return fmt.Errorf("configure %s: %w", m.name(), err)
		}
	}
	for _, p := range controlPlane(l, a) {
		if err := k.keep(p); err != nil {
			return err
		}
	}
	return nil
}

func serveAndPush(k *keeper, l Layout, busybox []linux.File) error {
	if err := os.MkdirAll(l.State("registry"), 0o755); err != nil {
		return err
	}
	if err := serveRegistry(l.State("registry")); err != nil {
		return fmt.Errorf("start registry: %w", err)
	}
	return pushImages(k, l, busybox)
}

func applyObjects(k *keeper, l Layout, o Options) error {
	names := []string{"coredns.yaml", "metrics-server.yaml"}
	if o.Hachi {
		names = append(names, "runtimeclass.yaml")
	}
	for _, name := range names {
		text, err := render(name, newValues(1))
		if err != nil {
			return err
		}
		file := l.State(name)
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
		if _, err := k.run(l.kubectl("apply", "-f", file)); err != nil {
			return err
		}
	}
	return nil
}

func waitReady(k *keeper, l Layout) error {
	for _, m := range []*exec.Cmd{
		l.kubectl("wait", "--for=create", "node", "--all", "--timeout=120s"),
		l.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=180s"),
		l.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=180s"),
		l.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s"),
	} {
		if _, err := k.run(m); err != nil {
			return err
		}
	}
	return nil
}
