package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/hachi-run/hachi/internal/testenv/daemon"
)

// pods measures what a kubelet waits for: the sandbox, and a container in it.
func (b *bench) pods(ctx context.Context, n int) ([]row, error) {
	conn, err := grpc.NewClient("unix://"+b.d.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	rt := cri.NewRuntimeServiceClient(conn)
	start := row{what: "CRI: StartContainer in a running pod", unit: "ms", bar: 0.25}
	run := row{what: "CRI: RunPodSandbox", unit: "ms", bar: 0.45}
	const warm = 2
	for i := range n + warm {
		for _, s := range sides {
			sandbox, container, err := b.pod(ctx, rt, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if i >= warm {
				run.add(s, sandbox.Seconds()*1000)
				start.add(s, container.Seconds()*1000)
			}
		}
	}
	return []row{start, run}, nil
}

// pod makes and removes one pod with one container and times the two calls.
func (b *bench) pod(ctx context.Context, rt cri.RuntimeServiceClient, s side) (sandbox, container time.Duration, err error) {
	name := b.id(s)
	nso := &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}
	config := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"}, LogDirectory: b.dir,
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: "/" + b.namespace() + "/" + name, SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: nso}},
	}
	defer daemon.RemoveCgroups(b.namespace() + "/" + name)
	begin := time.Now()
	p, err := rt.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: s.handler})
	if err != nil {
		return 0, 0, fmt.Errorf("run pod sandbox: %w", err)
	}
	sandbox = time.Since(begin)
	c, err := rt.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.PodSandboxId, SandboxConfig: config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"}, Image: &cri.ImageSpec{Image: s.image("idle")}, LogPath: name + ".log",
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: nso}},
	}})
	if err != nil {
		return 0, 0, fmt.Errorf("create container: %w", err)
	}
	begin = time.Now()
	if _, err := rt.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		return 0, 0, fmt.Errorf("start container: %w", err)
	}
	container = time.Since(begin)
	if _, err := rt.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: c.ContainerId, Timeout: 0}); err != nil {
		return 0, 0, fmt.Errorf("stop container: %w", err)
	}
	if _, err := rt.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.PodSandboxId}); err != nil {
		return 0, 0, fmt.Errorf("stop pod: %w", err)
	}
	if _, err := rt.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.PodSandboxId}); err != nil {
		return 0, 0, fmt.Errorf("remove pod: %w", err)
	}
	return sandbox, container, nil
}
