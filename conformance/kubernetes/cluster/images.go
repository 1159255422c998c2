package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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

func pushImages(k *keeper, l Layout) error {
	pause := l.State("pause")
	if err := compilePause(k, pause); err != nil {
		return err
	}
	busybox, err := Busybox()
	if err != nil {
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

// Busybox is a static busybox with all its words, for the base of an image.
func Busybox() ([]linux.File, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("make busybox image: %w (run make deps)", err)
	}
	files := []linux.File{{Path: "bin/busybox", From: path}}
	out, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(out), "/ld-linux") {
		return nil, fmt.Errorf("make busybox image: %s is not static (install busybox-static)", path)
	}
	for _, word := range []string{
		"sh", "cat", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "find", "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "mkdir", "mount",
		"mv", "nc", "netstat", "nslookup", "ping", "printf", "ps", "pwd", "rm", "sed", "seq", "sleep", "sort", "stat", "tail", "tar", "test", "touch", "tr", "true", "uname",
		"uniq", "wc", "wget", "which", "xargs", "yes",
	} {
		files = append(files, linux.File{Path: "bin/" + word, Link: "busybox"})
	}
	return files, nil
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
