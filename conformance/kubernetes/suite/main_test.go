// Package suite is a table of what pods do in a cluster: each row is a test that runs the same pod with hachi and with
// runc. It uses the cluster that runs, or brings one up and takes it down again.
package suite

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"github.com/hachi-run/hachi/conformance/kubernetes/cluster"
	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/internal/testenv/linux"
)

var (
	world  = env.NewWithConfig(envconf.New().WithParallelTestEnabled())
	layout cluster.Layout
	config *rest.Config
	api    *kubernetes.Clientset
	ctx    = context.Background()
)

// kind is a way to run the suite's programs.
type kind struct {
	name string
	// class is the pod's runtimeClassName; empty is containerd's default, runc.
	class string
	// program is the path of the program in its image.
	program string
	// tag is that of the suite's images.
	tag string
}

var (
	hachi = kind{"hachi", "hachi", "/actor.wasm", "wasm"}
	runc  = kind{"runc", "", "/actor", "linux"}
)

func (k kind) image(name string) string {
	return cluster.Registry + "/hachi-test/suite/" + name + ":" + k.tag
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the suite needs root for a cluster of its own (run sudo make test-kubernetes)")
		return 1
	}
	end := func() error { return nil }
	// Not a Finish of the framework, which would forget its error.
	defer func() {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	code = world.Setup(func(ctx context.Context, _ *envconf.Config) (context.Context, error) {
		var err error
		end, err = prepare()
		return ctx, err
	}).Run(m)
	for _, left := range leftovers(time.Minute) {
		fmt.Fprintln(os.Stderr, "left on the node:", left)
		code = 1
	}
	return code
}

// prepare brings up a cluster, unless one runs, and gives its registry the suite's images.
func prepare() (end func() error, err error) {
	end = func() error { return nil }
	if layout, err = cluster.Find(); err != nil {
		return end, err
	}
	up, err := exec.Command(layout.Tool("cluster"), "up").CombinedOutput()
	if err != nil {
		return end, fmt.Errorf("cluster up: %w: %s", err, up)
	}
	if !bytes.Contains(up, []byte("runs already")) {
		end = func() error {
			out, err := exec.Command(layout.Tool("cluster"), "down").CombinedOutput()
			if err != nil {
				return fmt.Errorf("cluster down: %w: %s", err, out)
			}
			return nil
		}
	}
	if config, err = clientcmd.BuildConfigFromFlags("", layout.Kubeconfig()); err != nil {
		return end, err
	}
	config.QPS, config.Burst = 200, 400
	if api, err = kubernetes.NewForConfig(config); err != nil {
		return end, err
	}
	return end, images()
}

func images() error {
	dir, err := os.MkdirTemp("", "suite")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	top := filepath.Join(layout.Top, "conformance/kubernetes")
	for _, name := range []string{"actor", "health"} {
		build := exec.Command(filepath.Join(layout.Bin(), "hachi"), "build", "--go", "./guests/"+name, "--ldflags", "-s -w", "-t", hachi.image(name), "--push")
		build.Dir = top
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", build, err, out)
		}
		program := filepath.Join(dir, name)
		if err := guest.Go(guest.Linux, filepath.Join(top, "guests", name), program); err != nil {
			return err
		}
		files, err := linux.Busybox()
		if err != nil {
			return err
		}
		files = append(files, linux.File{Path: name, From: program})
		if err := cluster.Push(runc.image(name), files, v1.Config{Entrypoint: []string{"/" + name}}); err != nil {
			return err
		}
	}
	return nil
}

// both runs a row for hachi and for runc at once, in namespaces of their own.
func both(t *testing.T, row func(t *testing.T, s *space)) {
	t.Parallel()
	world.TestInParallel(t, feature(hachi, row), feature(runc, row))
}

// alone runs a row that only means something for hachi.
func alone(t *testing.T, row func(t *testing.T, s *space)) {
	t.Parallel()
	world.Test(t, feature(hachi, row))
}

func feature(k kind, row func(t *testing.T, s *space)) features.Feature {
	return features.New(k.name).Assess("pod", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
		row(t, newSpace(t, k))
		return ctx
	}).Feature()
}

// eventually waits until f returns nil.
func eventually(t *testing.T, what string, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// soon is the patience for what takes a second or two on an idle machine.
const soon = 2 * time.Minute

func lines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }
