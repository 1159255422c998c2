package task

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/shim/pod"
	"github.com/hachi-run/hachi/shim/taskpb"
)

// Events takes a pod's events and delivers them in order.
type Events interface {
	Send(topic string, event *taskpb.Any) error
}

// event is the message of a task event.
type event interface {
	MarshalVT() ([]byte, error)
}

// topic is where an event is published, and its message's name.
type topic struct{ path, message string }

// The task events (containerd's core/runtime/events.go and api/events/task.proto).
var (
	topicCreate      = topic{"/tasks/create", "containerd.events.TaskCreate"}
	topicStart       = topic{"/tasks/start", "containerd.events.TaskStart"}
	topicOOM         = topic{"/tasks/oom", "containerd.events.TaskOOM"}
	topicExit        = topic{"/tasks/exit", "containerd.events.TaskExit"}
	topicDelete      = topic{"/tasks/delete", "containerd.events.TaskDelete"}
	topicExecAdded   = topic{"/tasks/exec-added", "containerd.events.TaskExecAdded"}
	topicExecStarted = topic{"/tasks/exec-started", "containerd.events.TaskExecStarted"}
	topicPaused      = topic{"/tasks/paused", "containerd.events.TaskPaused"}
	topicResumed     = topic{"/tasks/resumed", "containerd.events.TaskResumed"}
)

// life keeps the events of one process in order: its exit is told after its start and before its end is
// acknowledged, and a container's after those of its execs.
type life struct {
	sync.Mutex // held from before a start until its event is queued
	container  *pod.Container
	told       chan struct{} // closed when the exit is queued, or there will be none
}

func (s *wasm) send(t topic, e event) {
	body, err := taskpb.Pack(t.message, e)
	if err == nil {
		err = s.events.Send(t.path, body)
	}
	if err != nil {
		slog.Error("event was lost", "topic", t.path, "error", err)
	}
}

// follow sends the event of a new process of c, and tells its exit when that comes.
func (s *wasm) follow(c *pod.Container, p *pod.Process, t topic, e event) {
	l := &life{container: c, told: make(chan struct{})}
	l.Lock()
	defer l.Unlock()
	s.mu.Lock()
	s.lives[p] = l
	s.mu.Unlock()
	s.send(t, e)
	s.following.Go(func() {
		defer close(l.told)
		<-p.Done()
		s.tell(l, p)
	})
}

// tell sends the exit of p.
func (s *wasm) tell(l *life, p *pod.Process) {
	id, name := l.container.ID, p.ID
	if name == "" {
		name = id
		s.awaitExecs(l.container)
	}
	l.Lock()
	defer l.Unlock()
	x := p.Exit()
	if x.At.IsZero() {
		return // an exec that never ran
	}
	if x.OOM {
		s.send(topicOOM, &taskpb.TaskOOM{ContainerId: id})
	}
	s.send(topicExit, &taskpb.TaskExit{ContainerId: id, Id: name, Pid: uint32(p.Pid()), ExitStatus: x.Code, ExitedAt: taskpb.Time(x.At)})
}

// awaitExecs waits until the exits of all execs of c that ever ran are told. They have ended before c did.
func (s *wasm) awaitExecs(c *pod.Container) {
	var told []chan struct{}
	s.mu.Lock()
	for p, l := range s.lives {
		if l.container != c || p == c.Init {
			continue
		}
		select {
		case <-p.Done():
			told = append(told, l.told)
		default: // not started
		}
	}
	s.mu.Unlock()
	for _, t := range told {
		<-t
	}
}

// life finds the life of p; NotFound if it is about to begin or over.
func (s *wasm) life(p *pod.Process) (*life, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lives[p]
	if l == nil {
		return nil, fmt.Errorf("process is not there yet, or not any more: %w", errdefs.ErrNotFound)
	}
	return l, nil
}

// forget drops the life of p, and when p is a container's first process those of its execs too.
func (s *wasm) forget(c *pod.Container, p *pod.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, l := range s.lives {
		if other == p || p == c.Init && l.container == c {
			delete(s.lives, other)
		}
	}
}
