package task

import (
	"log/slog"
	"sync"

	events "github.com/containerd/containerd/api/events"
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
// acknowledged.
type life struct {
	sync.Mutex               // held from before a start until its event is queued
	told       chan struct{} // closed when the exit is queued
}

func (s *wasm) send(topic string, event any) {
	if err := s.events.Send(topic, event); err != nil {
		slog.Error("event was lost", "topic", topic, "error", err)
	}
}

// follow tells the exit of p, a process of container id, when it comes.
func (s *wasm) follow(id string, p *pod.Process) {
	l := &life{told: make(chan struct{})}
	s.lives.Store(p, l)
	go func() {
		<-p.Done()
		l.Lock()
		defer l.Unlock()
		x := p.Exit()
		if x.OOM {
			s.send(topicOOM, &events.TaskOOM{ContainerID: id})
		}
		name := p.ID
		if name == "" {
			name = id
		}
		s.send(topicExit, &events.TaskExit{ContainerID: id, ID: name, Pid: uint32(p.Pid()), ExitStatus: x.Code, ExitedAt: timestamppb.New(x.At)})
		close(l.told)
	}()
}

func (s *wasm) life(p *pod.Process) *life {
	l, _ := s.lives.Load(p)
	return l.(*life)
}
