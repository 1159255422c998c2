package containerd

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	apievents "github.com/containerd/containerd/api/events"
)

// watch collects the topics of a container's events until f returns true or patience ends.
func (w *world) watch(t *testing.T) func(until string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	got, errs := w.c.Subscribe(ctx, `topic~="^/tasks/"`, `topic=="/test/ready"`)
	t.Cleanup(cancel)
	// Nobody answers a subscription, so ask until an event of our own comes back.
	for ready := false; !ready; {
		if err := w.c.EventService().Publish(ctx, "/test/ready", &apievents.NamespaceCreate{Name: "any"}); err != nil {
			t.Fatal(err)
		}
		select {
		case e := <-got:
			ready = e.Topic == "/test/ready"
		case err := <-errs:
			t.Fatalf("subscribe: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return func(until string) []string {
		var topics []string
		for deadline := time.After(patience); ; {
			select {
			case e := <-got:
				if e.Topic != "/test/ready" {
					topics = append(topics, strings.TrimPrefix(e.Topic, "/tasks/"))
				}
				if e.Topic == until {
					return topics
				}
			case err := <-errs:
				t.Fatalf("events: %v; so far %q", err, topics)
			case <-deadline:
				t.Fatalf("no event %s; so far %q", until, topics)
			}
		}
	}
}

func eventsInOrder(t *testing.T, w *world) {
	until := w.watch(t)
	c := w.start(t, "exit", "3")
	c.wait(t)
	c.remove(t)
	if diff := cmp.Diff([]string{"create", "start", "exit", "delete"}, until("/tasks/delete")); diff != "" {
		t.Error(diff)
	}

	until = w.watch(t)
	c = w.start(t, "ready")
	if err := c.task.Pause(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.task.Resume(w.ctx); err != nil {
		t.Fatal(err)
	}
	c.kill(t, syscall.SIGKILL)
	c.wait(t)
	c.remove(t)
	if diff := cmp.Diff([]string{"create", "start", "paused", "resumed", "exit", "delete"}, until("/tasks/delete")); diff != "" {
		t.Error(diff)
	}
}
