package task

import (
	"context"
	"fmt"
	"runtime"

	sandboxAPI "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hachi-run/hachi/shim/sandbox"
)

// Sandbox serves containerd's sandbox service.
type Sandbox struct {
	sandbox  *sandbox.Sandbox
	usage    func(cgroup string) (any, error)
	shutdown func()
}

// NewSandbox returns the service for s. usage reads the metrics of a cgroup; shutdown ends the server when the
// answer to the current call is out.
func NewSandbox(s *sandbox.Sandbox, usage func(cgroup string) (any, error), shutdown func()) *Sandbox {
	return &Sandbox{sandbox: s, usage: usage, shutdown: shutdown}
}

var _ sandboxAPI.TTRPCSandboxService = (*Sandbox)(nil)

// CreateSandbox moves the server into the pod's namespaces.
func (s *Sandbox) CreateSandbox(_ context.Context, r *sandboxAPI.CreateSandboxRequest) (*sandboxAPI.CreateSandboxResponse, error) {
	c, err := sandbox.ParseConfig(r.Options)
	if err != nil {
		return nil, err
	}
	return &sandboxAPI.CreateSandboxResponse{}, s.sandbox.Create(r.SandboxID, r.BundlePath, r.NetnsPath, c)
}

// StartSandbox makes the pod ready. containerd's NRI wants some spec of it.
func (s *Sandbox) StartSandbox(_ context.Context, r *sandboxAPI.StartSandboxRequest) (*sandboxAPI.StartSandboxResponse, error) {
	pid, created, err := s.sandbox.Start(r.SandboxID)
	if err != nil {
		return nil, err
	}
	spec, err := typeurl.MarshalAnyToProto(&specs.Spec{Version: specs.Version, Process: &specs.Process{}, Root: &specs.Root{}, Linux: &specs.Linux{}})
	if err != nil {
		return nil, err
	}
	return &sandboxAPI.StartSandboxResponse{Pid: uint32(pid), CreatedAt: timestamppb.New(created), Spec: spec}, nil
}

// Platform is Linux even for Wasm containers: containerd makes their specs by it.
func (s *Sandbox) Platform(context.Context, *sandboxAPI.PlatformRequest) (*sandboxAPI.PlatformResponse, error) {
	return &sandboxAPI.PlatformResponse{Platform: &types.Platform{OS: "linux", Architecture: runtime.GOARCH}}, nil
}

// StopSandbox ends the pod; its containers were stopped before.
func (s *Sandbox) StopSandbox(_ context.Context, r *sandboxAPI.StopSandboxRequest) (*sandboxAPI.StopSandboxResponse, error) {
	return &sandboxAPI.StopSandboxResponse{}, s.sandbox.Stop(r.SandboxID)
}

// WaitSandbox waits for the end of the pod.
func (s *Sandbox) WaitSandbox(ctx context.Context, r *sandboxAPI.WaitSandboxRequest) (*sandboxAPI.WaitSandboxResponse, error) {
	at, err := s.sandbox.Wait(ctx, r.SandboxID)
	if err != nil {
		return nil, err
	}
	return &sandboxAPI.WaitSandboxResponse{ExitedAt: timestamppb.New(at)}, nil
}

// SandboxStatus tells what the pod is now.
func (s *Sandbox) SandboxStatus(_ context.Context, r *sandboxAPI.SandboxStatusRequest) (*sandboxAPI.SandboxStatusResponse, error) {
	st, err := s.sandbox.Status(r.SandboxID)
	if err != nil {
		return nil, err
	}
	reply := &sandboxAPI.SandboxStatusResponse{SandboxID: r.SandboxID, Pid: uint32(st.Pid), State: string(st.State), CreatedAt: timestamppb.New(st.Created)}
	if !st.Stopped.IsZero() {
		reply.ExitedAt = timestamppb.New(st.Stopped)
	}
	return reply, nil
}

// PingSandbox answers.
func (s *Sandbox) PingSandbox(context.Context, *sandboxAPI.PingRequest) (*sandboxAPI.PingResponse, error) {
	return &sandboxAPI.PingResponse{}, nil
}

// ShutdownSandbox ends the pod and then the server, also one whose sandbox could not be created.
func (s *Sandbox) ShutdownSandbox(_ context.Context, r *sandboxAPI.ShutdownSandboxRequest) (*sandboxAPI.ShutdownSandboxResponse, error) {
	if err := s.sandbox.Stop(r.SandboxID); err != nil && s.sandbox.Born() {
		return nil, err
	}
	s.shutdown()
	return &sandboxAPI.ShutdownSandboxResponse{}, nil
}

// SandboxMetrics are those of the pod's own cgroup.
func (s *Sandbox) SandboxMetrics(_ context.Context, r *sandboxAPI.SandboxMetricsRequest) (*sandboxAPI.SandboxMetricsResponse, error) {
	st, err := s.sandbox.Status(r.SandboxID)
	if err != nil {
		return nil, err
	}
	if st.CgroupParent == "" {
		return nil, fmt.Errorf("metrics of sandbox %s: it has no cgroup: %w", r.SandboxID, errdefs.ErrNotFound)
	}
	usage, err := s.usage(st.CgroupParent)
	if err != nil {
		return nil, err
	}
	body, err := typeurl.MarshalAnyToProto(usage)
	if err != nil {
		return nil, fmt.Errorf("metrics of sandbox %s: %w", r.SandboxID, err)
	}
	return &sandboxAPI.SandboxMetricsResponse{Metrics: &types.Metric{ID: r.SandboxID, Timestamp: timestamppb.Now(), Data: body}}, nil
}

// UpdateSandbox is optional, and the pod's own limits are kubelet's to set.
func (s *Sandbox) UpdateSandbox(_ context.Context, r *sandboxAPI.UpdateSandboxRequest) (*sandboxAPI.UpdateSandboxResponse, error) {
	return nil, fmt.Errorf("update sandbox %s: %w", r.SandboxID, errdefs.ErrNotImplemented)
}
