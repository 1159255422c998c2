package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/hachi-run/hachi/internal/testenv/linux"
)

// The images that every cluster has, made from programs of this machine and of conformance/tools.
const (
	pauseImage   = Registry + "/hachi-test/pause:1"
	BusyboxImage = Registry + "/hachi-test/busybox:1"
	coreDNSImage = Registry + "/hachi-test/coredns:1.13.1"
	metricsImage = Registry + "/hachi-test/metrics-server:0.7.2"
)

func pushImages(k *keeper, l Layout, busybox []linux.File) error {
	pause := l.State("pause")
	if err := compilePause(k, pause); err != nil {
		return err
	}
	images := []struct {
		name  string
		files []linux.File
		run   string
	}{
		{pauseImage, []linux.File{{Path: "pause", From: pause}}, "/pause"},
		{BusyboxImage, busybox, "/bin/sh"},
		{coreDNSImage, []linux.File{{Path: "coredns", From: l.Tool(coreDNSTools, "coredns")}}, "/coredns"},
		{metricsImage, []linux.File{{Path: "metrics-server", From: l.Tool(metricsTools, "metrics-server")}}, "/metrics-server"},
	}
	for _, i := range images {
		if err := Push(i.name, i.files, v1.Config{Entrypoint: []string{i.run}}); err != nil {
			return err
		}
	}
	return nil
}

// Push makes a Linux image and gives it to the cluster's registry.
func Push(ref string, files []linux.File, config v1.Config) error {
	image, err := linux.Image(files, config)
	if err != nil {
		return fmt.Errorf("make image %s: %w", ref, err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	if err := remote.Write(tag, image); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}

// compilePause makes what keeps a pod's namespaces under runc, as small as the one Kubernetes ships.
func compilePause(k *keeper, out string) error {
	source, err := manifests.ReadFile("manifests/pause.c")
	if err != nil {
		return err
	}
	file := filepath.Join(filepath.Dir(out), "pause.c")
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return err
	}
	if _, err := k.run(exec.Command("gcc", "-static", "-Os", "-s", "-o", out, file)); err != nil {
		return fmt.Errorf("compile pause: %w", err)
	}
	return nil
}
