package task

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"

	events "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hachi-run/hachi/shim/bundle"
	"github.com/hachi-run/hachi/shim/image"
	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/stdio"
	"github.com/hachi-run/hachi/shim/taskpb"
)

var empty = &emptypb.Empty{}

// wasm is the task service of Wasm containers and of the pod's pause container.
type wasm struct {
	pod       *pod.Pod
	events    Events
	namespace string
	following sync.WaitGroup // who waits for exits to tell

	mu    sync.Mutex
	lives map[*pod.Process]*life // guarded by mu
}

// close ends all containers and tells their exits.
func (s *wasm) close() {
	s.pod.Close()
	s.following.Wait()
}

// create makes a container of what find finds, or the pause container when find is nil.
func (s *wasm) create(ctx context.Context, r *taskpb.CreateTaskRequest, b bundle.Bundle, find func(context.Context) (*image.Image, error)) (*taskpb.PidResponse, error) {
	if r.Checkpoint != "" {
		return nil, fmt.Errorf("create container %s: restore from a checkpoint: %w (Wasm containers cannot be checkpointed)", r.Id, errdefs.ErrInvalidArgument)
	}
	o := pod.ContainerOptions{ID: r.Id, Bundle: b, Find: find, Rootfs: mounts(r.Rootfs), IO: s.stdio(r.Id, r.Stdin, r.Stdout, r.Stderr, r.Terminal)}
	o.Announce = func(c *pod.Container) {
		s.follow(c, c.Init, topicCreate, &events.TaskCreate{
			ContainerID: r.Id, Bundle: r.Bundle, Rootfs: r.Rootfs, Pid: uint32(c.Init.Pid()),
			IO: &events.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
		})
	}
	c, err := s.pod.Create(ctx, o)
	if err != nil {
		return nil, err
	}
	return &taskpb.PidResponse{Pid: uint32(c.Init.Pid())}, nil
}

func (s *wasm) stdio(id, stdin, stdout, stderr string, terminal bool) stdio.Config {
	return stdio.Config{Stdin: stdin, Stdout: stdout, Stderr: stderr, Terminal: terminal, ID: id, Namespace: s.namespace}
}

// Create is answered by the router, which alone knows what a new container is.
func (s *wasm) Create(context.Context, *taskpb.CreateTaskRequest) (*taskpb.PidResponse, error) {
	return nil, fmt.Errorf("create: not routed: %w", errdefs.ErrInternal)
}

func (s *wasm) Start(ctx context.Context, r *taskpb.ProcessRequest) (*taskpb.PidResponse, error) {
	c, p, err := s.find(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	l, err := s.life(p)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	l.Lock()
	defer l.Unlock()
	if _, err := c.Start(ctx, r.ExecId); err != nil {
		return nil, err
	}
	pid := uint32(p.Pid())
	if r.ExecId == "" {
		s.send(topicStart, &events.TaskStart{ContainerID: r.Id, Pid: pid})
	} else {
		s.send(topicExecStarted, &events.TaskExecStarted{ContainerID: r.Id, ExecID: r.ExecId, Pid: pid})
	}
	return &taskpb.PidResponse{Pid: pid}, nil
}

// find finds a container, and its first process or one of its execs.
func (s *wasm) find(id, exec string) (*pod.Container, *pod.Process, error) {
	c, err := s.pod.Container(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.Process(exec)
	return c, p, err
}

func (s *wasm) Delete(ctx context.Context, r *taskpb.ProcessRequest) (*taskpb.DeleteResponse, error) {
	c, p, err := s.find(r.Id, r.ExecId)
	if err != nil && r.ExecId == "" {
		// containerd gave up waiting for Create, and now nothing of it may stay.
		return nil, s.pod.Delete(ctx, r.Id)
	}
	if err != nil {
		return nil, err
	}
	l, err := s.life(p)
	if err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	if r.ExecId != "" {
		_, err = c.DeleteExec(r.ExecId)
	} else {
		err = s.pod.Delete(ctx, r.Id)
	}
	if err != nil {
		return nil, err
	}
	<-l.told
	s.forget(c, p)
	x, pid := p.Exit(), uint32(p.Pid())
	if r.ExecId == "" {
		s.send(topicDelete, &events.TaskDelete{ContainerID: r.Id, Pid: pid, ExitStatus: x.Code, ExitedAt: timestamppb.New(x.At)})
	}
	return &taskpb.DeleteResponse{Pid: pid, ExitStatus: x.Code, ExitedAt: timestamppb.New(x.At)}, nil
}

func (s *wasm) State(_ context.Context, r *taskpb.ProcessRequest) (*taskpb.StateResponse, error) {
	c, p, err := s.find(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	state := &taskpb.StateResponse{
		Id: r.Id, ExecId: r.ExecId, Bundle: c.Bundle.Path, Pid: uint32(p.Pid()), Status: statusOf(p.State()),
		Stdin: p.IO.Stdin, Stdout: p.IO.Stdout, Stderr: p.IO.Stderr, Terminal: p.IO.Terminal,
	}
	if state.Status == task.Status_STOPPED {
		x := p.Exit()
		state.ExitStatus, state.ExitedAt = x.Code, timestamppb.New(x.At)
	}
	return state, nil
}

func statusOf(s pod.State) task.Status {
	switch s {
	case pod.Created:
		return task.Status_CREATED
	case pod.Running:
		return task.Status_RUNNING
	case pod.Paused:
		return task.Status_PAUSED
	default:
		return task.Status_STOPPED
	}
}

func (s *wasm) Wait(ctx context.Context, r *taskpb.ProcessRequest) (*taskpb.WaitResponse, error) {
	_, p, err := s.find(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	x, err := p.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return &taskpb.WaitResponse{ExitStatus: x.Code, ExitedAt: timestamppb.New(x.At)}, nil
}

func (s *wasm) Kill(_ context.Context, r *taskpb.KillRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.Id)
	if err != nil {
		return nil, err
	}
	return empty, c.Kill(r.ExecId, syscall.Signal(r.Signal), r.All)
}

func (s *wasm) Pids(_ context.Context, r *taskpb.ProcessRequest) (*taskpb.PidsResponse, error) {
	c, err := s.pod.Container(r.Id)
	if err != nil {
		return nil, err
	}
	reply := new(taskpb.PidsResponse)
	for _, pid := range c.Pids() {
		reply.Processes = append(reply.Processes, &task.ProcessInfo{Pid: uint32(pid)})
	}
	return reply, nil
}

func (s *wasm) Exec(_ context.Context, r *taskpb.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.Id)
	if err != nil {
		return nil, err
	}
	spec := new(specs.Process)
	if err := json.Unmarshal(r.Spec.GetValue(), spec); err != nil {
		return nil, fmt.Errorf("exec %s: process: %w: %w", r.ExecId, err, errdefs.ErrInvalidArgument)
	}
	p, err := c.Exec(r.ExecId, spec, s.stdio(r.Id, r.Stdin, r.Stdout, r.Stderr, r.Terminal))
	if err != nil {
		return nil, err
	}
	s.follow(c, p, topicExecAdded, &events.TaskExecAdded{ContainerID: r.Id, ExecID: r.ExecId})
	return empty, nil
}

func (s *wasm) ResizePty(_ context.Context, r *taskpb.ResizePtyRequest) (*emptypb.Empty, error) {
	_, p, err := s.find(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	return empty, p.Resize(uint16(min(r.Width, math.MaxUint16)), uint16(min(r.Height, math.MaxUint16)))
}

func (s *wasm) CloseIO(_ context.Context, r *taskpb.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.find(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.CloseInput()
	}
	return empty, nil
}

func (s *wasm) Pause(_ context.Context, r *taskpb.ProcessRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.Id)
	if err != nil {
		return nil, err
	}
	return empty, s.inLife(c, topicPaused, &events.TaskPaused{ContainerID: r.Id}, c.Pause)
}

func (s *wasm) Resume(_ context.Context, r *taskpb.ProcessRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.Id)
	if err != nil {
		return nil, err
	}
	return empty, s.inLife(c, topicResumed, &events.TaskResumed{ContainerID: r.Id}, c.Resume)
}

// inLife does something with a container and tells it, before its exit is told.
func (s *wasm) inLife(c *pod.Container, topic string, event any, do func() error) error {
	l, err := s.life(c.Init)
	if err != nil {
		return err
	}
	l.Lock()
	defer l.Unlock()
	if err := do(); err != nil {
		return err
	}
	s.send(topic, event)
	return nil
}

func (s *wasm) Update(_ context.Context, r *taskpb.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.Id)
	if err != nil {
		return nil, err
	}
	limits := new(specs.LinuxResources)
	if err := json.Unmarshal(r.Resources.GetValue(), limits); err != nil {
		return nil, fmt.Errorf("update container %s: resources: %w: %w", r.Id, err, errdefs.ErrInvalidArgument)
	}
	return empty, c.Update(limits)
}

func (s *wasm) Stats(_ context.Context, r *taskpb.ProcessRequest) (*taskpb.StatsResponse, error) {
	c, err := s.pod.Container(r.Id)
	if err != nil {
		return nil, err
	}
	stats, err := c.Stats()
	if err != nil {
		return nil, err
	}
	body, err := typeurl.MarshalAnyToProto(stats)
	if err != nil {
		return nil, fmt.Errorf("metrics of container %s: %w", r.Id, err)
	}
	return &taskpb.StatsResponse{Stats: body}, nil
}

func (s *wasm) Connect(_ context.Context, r *taskpb.ProcessRequest) (*taskpb.ConnectResponse, error) {
	reply := &taskpb.ConnectResponse{ShimPid: uint32(os.Getpid())}
	if c, err := s.pod.Container(r.Id); err == nil {
		reply.TaskPid = uint32(c.Init.Pid())
	}
	return reply, nil
}

func (s *wasm) Checkpoint(_ context.Context, r *taskpb.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, fmt.Errorf("checkpoint container %s: Wasm containers cannot be checkpointed: %w (start another one: it takes milliseconds)", r.Id, errdefs.ErrNotImplemented)
}

// Shutdown is answered by the router, which alone knows whether anything is left.
func (s *wasm) Shutdown(context.Context, *taskpb.ShutdownRequest) (*emptypb.Empty, error) {
	return nil, fmt.Errorf("shutdown: not routed: %w", errdefs.ErrInternal)
}
