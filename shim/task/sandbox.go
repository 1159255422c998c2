package task

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/shim/sandbox"
	"github.com/hachi-run/hachi/shim/taskpb"
	"github.com/hachi-run/hachi/shim/ttrpc"
)

// Sandbox serves containerd's sandbox service.
type Sandbox struct {
	sandbox  *sandbox.Sandbox
	usage    func(cgroup string) (metrics.Message, error)
	shutdown func()
}

// NewSandbox returns the service for s. usage reads the metrics of a cgroup; shutdown ends the server when the
// answer to the current call is out.
func NewSandbox(s *sandbox.Sandbox, usage func(cgroup string) (metrics.Message, error), shutdown func()) *Sandbox {
	return &Sandbox{sandbox: s, usage: usage, shutdown: shutdown}
}

// Register adds the sandbox service to a server.
func (s *Sandbox) Register(server *ttrpc.Server) {
	server.Register("containerd.runtime.sandbox.v1.Sandbox", ttrpc.Service{
		"CreateSandbox":   ttrpc.Unary(s.CreateSandbox),
		"StartSandbox":    ttrpc.Unary(s.StartSandbox),
		"Platform":        ttrpc.Unary(s.Platform),
		"StopSandbox":     ttrpc.Unary(s.StopSandbox),
		"WaitSandbox":     ttrpc.Unary(s.WaitSandbox),
		"SandboxStatus":   ttrpc.Unary(s.SandboxStatus),
		"PingSandbox":     ttrpc.Unary(s.PingSandbox),
		"ShutdownSandbox": ttrpc.Unary(s.ShutdownSandbox),
		"SandboxMetrics":  ttrpc.Unary(s.SandboxMetrics),
		"UpdateSandbox":   ttrpc.Unary(s.UpdateSandbox),
	})
}

// CreateSandbox moves the server into the pod's namespaces.
func (s *Sandbox) CreateSandbox(_ context.Context, r *taskpb.CreateSandboxRequest) (*taskpb.Empty, error) {
	c, err := sandbox.ParseConfig(r.Options)
	if err != nil {
		return nil, err
	}
	return empty, s.sandbox.Create(r.SandboxId, r.BundlePath, r.NetnsPath, c)
}

// specURL is what containerd calls an OCI spec in an Any (core/runtime/typeurl.go), whose value is JSON.
const specURL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"

// StartSandbox makes the pod ready. containerd's NRI wants some spec of it.
func (s *Sandbox) StartSandbox(_ context.Context, r *taskpb.SandboxRequest) (*taskpb.StartSandboxResponse, error) {
	pid, created, err := s.sandbox.Start(r.SandboxId)
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(&specs.Spec{Version: specs.Version, Process: &specs.Process{}, Root: &specs.Root{}, Linux: &specs.Linux{}})
	if err != nil {
		return nil, err
	}
	return &taskpb.StartSandboxResponse{Pid: uint32(pid), CreatedAt: taskpb.Time(created), Spec: &taskpb.Any{TypeUrl: specURL, Value: spec}}, nil
}

// Platform is Linux even for Wasm containers: containerd makes their specs by it.
func (s *Sandbox) Platform(context.Context, *taskpb.SandboxRequest) (*taskpb.PlatformResponse, error) {
	return &taskpb.PlatformResponse{Platform: &taskpb.Platform{Os: "linux", Architecture: runtime.GOARCH}}, nil
}

// StopSandbox ends the pod; its containers were stopped before.
func (s *Sandbox) StopSandbox(_ context.Context, r *taskpb.SandboxRequest) (*taskpb.Empty, error) {
	return empty, s.sandbox.Stop(r.SandboxId)
}

// WaitSandbox waits for the end of the pod.
func (s *Sandbox) WaitSandbox(ctx context.Context, r *taskpb.SandboxRequest) (*taskpb.WaitSandboxResponse, error) {
	at, err := s.sandbox.Wait(ctx, r.SandboxId)
	if err != nil {
		return nil, err
	}
	return &taskpb.WaitSandboxResponse{ExitedAt: taskpb.Time(at)}, nil
}

// SandboxStatus tells what the pod is now.
func (s *Sandbox) SandboxStatus(_ context.Context, r *taskpb.SandboxRequest) (*taskpb.SandboxStatusResponse, error) {
	st, err := s.sandbox.Status(r.SandboxId)
	if err != nil {
		return nil, err
	}
	reply := &taskpb.SandboxStatusResponse{SandboxId: r.SandboxId, Pid: uint32(st.Pid), State: string(st.State), CreatedAt: taskpb.Time(st.Created)}
	if !st.Stopped.IsZero() {
		reply.ExitedAt = taskpb.Time(st.Stopped)
	}
	return reply, nil
}

// PingSandbox answers.
func (s *Sandbox) PingSandbox(context.Context, *taskpb.SandboxRequest) (*taskpb.Empty, error) {
	return empty, nil
}

// ShutdownSandbox ends the pod and then the server, also one whose sandbox could not be created.
func (s *Sandbox) ShutdownSandbox(_ context.Context, r *taskpb.SandboxRequest) (*taskpb.Empty, error) {
	if err := s.sandbox.Stop(r.SandboxId); err != nil && s.sandbox.Born() {
		return nil, err
	}
	s.shutdown()
	return empty, nil
}

// SandboxMetrics are those of the pod's own cgroup.
func (s *Sandbox) SandboxMetrics(_ context.Context, r *taskpb.SandboxRequest) (*taskpb.SandboxMetricsResponse, error) {
	st, err := s.sandbox.Status(r.SandboxId)
	if err != nil {
		return nil, err
	}
	if st.CgroupParent == "" {
		return nil, fmt.Errorf("metrics of sandbox %s: it has no cgroup: %w", r.SandboxId, errdefs.ErrNotFound)
	}
	usage, err := s.usage(st.CgroupParent)
	if err != nil {
		return nil, err
	}
	body, err := taskpb.Pack(usage.TypeURL(), usage)
	if err != nil {
		return nil, fmt.Errorf("metrics of sandbox %s: %w", r.SandboxId, err)
	}
	return &taskpb.SandboxMetricsResponse{Metrics: &taskpb.Metric{Id: r.SandboxId, Timestamp: taskpb.Time(time.Now()), Data: body}}, nil
}

// UpdateSandbox is optional, and the pod's own limits are kubelet's to set.
func (s *Sandbox) UpdateSandbox(_ context.Context, r *taskpb.SandboxRequest) (*taskpb.Empty, error) {
	return nil, fmt.Errorf("update sandbox %s: %w", r.SandboxId, errdefs.ErrNotImplemented)
}
