package linux

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/typeurl/v2"

	"github.com/hachi-run/hachi/shim/bundle"
)

// Observer keeps account of what containers do.
type Observer interface {
	// Observe begins with a container of which only runc's own process runs, at pid. It does not wait: Observation.Ready
	// does.
	Observe(id string, annotations map[string]string, pid int) (Observation, error)
}

// Observation is the account of one container.
type Observation interface {
	// Ready returns when everything that the container does from then on is accounted for, or will not be.
	Ready(ctx context.Context)
	// AddTo adds what the cgroup does not know to one of containerd's metrics messages.
	AddTo(metrics any)
	// End takes the last reading; the cgroup must still be there. Further calls do nothing.
	End()
	// Undo is End for a container that came to nothing.
	Undo()
}

// follow begins what goes on beside a new container: its account and the redirection of its connections. Without the
// second it must not run.
func (s *Service) follow(ctx context.Context, r *task.CreateTaskRequest, pid int) error {
	b, err := bundle.Open(r.Bundle)
	if err != nil {
		return err
	}
	var seen Observation
	if s.hooks.Observer != nil {
		if seen, err = s.hooks.Observer.Observe(r.ID, b.Spec.Annotations, pid); err != nil {
			slog.Warn("Linux container is not accounted for", "id", r.ID, "error", err)
		}
	}
	free := func() {}
	if s.hooks.Steer != nil {
		free, err = s.hooks.Steer(ctx, r.ID, b.Spec.Annotations, pid)
		if err != nil && seen != nil {
			seen.Undo()
		}
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free[r.ID] = free
	if seen != nil {
		s.seen[r.ID] = seen
	}
	return nil
}

// observation finds a container's account; nil if it has none.
func (s *Service) observation(id string) Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[id]
}

// Start waits for the account to begin, and starts the container, or an exec in it.
func (s *Service) Start(ctx context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	if o := s.observation(r.ID); o != nil && r.ExecID == "" {
		o.Ready(ctx)
	}
	return s.TTRPCTaskService.Start(ctx, r)
}

// Delete ends what goes on beside the container first, for runc removes the cgroup with it.
func (s *Service) Delete(ctx context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	if r.ExecID != "" {
		return s.TTRPCTaskService.Delete(ctx, r)
	}
	s.mu.Lock()
	seen, free := s.seen[r.ID], s.free[r.ID]
	s.mu.Unlock()
	over := s.over(ctx, r.ID)
	if over && seen != nil {
		seen.End()
	}
	if over && free != nil {
		free()
	}
	reply, err := s.TTRPCTaskService.Delete(ctx, r)
	if err == nil {
		s.mu.Lock()
		delete(s.seen, r.ID)
		delete(s.free, r.ID)
		s.mu.Unlock()
	}
	return reply, err
}

// over tells whether runc will delete the container, rather than refuse it because it runs.
func (s *Service) over(ctx context.Context, id string) bool {
	st, err := s.TTRPCTaskService.State(ctx, &task.StateRequest{ID: id})
	return err == nil && (st.Status == tasktypes.Status_STOPPED || st.Status == tasktypes.Status_CREATED)
}

// Stats are the cgroup's metrics and the container's traffic.
func (s *Service) Stats(ctx context.Context, r *task.StatsRequest) (*task.StatsResponse, error) {
	reply, err := s.TTRPCTaskService.Stats(ctx, r)
	o := s.observation(r.ID)
	if err != nil || o == nil {
		return reply, err
	}
	metrics, err := typeurl.UnmarshalAny(reply.Stats)
	if err != nil {
		return nil, fmt.Errorf("metrics of container %s: %w", r.ID, err)
	}
	o.AddTo(metrics)
	if reply.Stats, err = typeurl.MarshalAnyToProto(metrics); err != nil {
		return nil, fmt.Errorf("metrics of container %s: %w", r.ID, err)
	}
	return reply, nil
}
