package task

import (
	"fmt"
	"log/slog"
	"sync"

	events "github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hachi-run/hachi/shim/pod"
)

// Events takes a pod's events and delivers them in order.
type Events interface {
	Send(topic string, event any) error
}

// The topics of the task events (containerd's core/runtime/events.go).
const (
	topicCreate      = "/tasks/create"
	topicStart       = "/tasks/start"
	topicOOM         = "/tasks/oom"
	topicExit        = "/tasks/exit"
	topicDelete      = "/tasks/delete"
	topicExecAdded   = "/tasks/exec-added"
	topicExecStarted = "/tasks/exec-started"
	topicPaused      = "/tasks/paused"
	topicResumed     = "/tasks/resumed"
)

// life keeps the events of one process in order: its exit is told after its start and before its end is
// acknowledged, and a container's after those of its execs.
type life struct {
	sync.Mutex // held from before a start until its event is queued
	container  *pod.Container
	told       chan struct{} // closed when the exit is queued, or there will be none
}

func (s *wasm) send(topic string, event any) {
	if err := s.events.Send(topic, event); err != nil {
		slog.Error("event was lost", "topic", topic, "error", err)
	}
}

// follow sends the event of a new process of c, and tells its exit when that comes.
func (s *wasm) follow(c *pod.Container, p *pod.Process, topic string, event any) {
	l := &life{container: c, told: make(chan struct{})}
	l.Lock()
	defer l.Unlock()
	s.mu.Lock()
	s.lives[p] = l
	s.mu.Unlock()
	s.send(topic, event)
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
		s.send(topicOOM, &events.TaskOOM{ContainerID: id})
	}
	s.send(topicExit, &events.TaskExit{ContainerID: id, ID: name, Pid: uint32(p.Pid()), ExitStatus: x.Code, ExitedAt: timestamppb.New(x.At)})
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
