package linux

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/shim/bundle"
	"github.com/hachi-run/hachi/shim/taskpb"
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
	// Traffic is what the container has sent and received so far, which its cgroup does not know; nil when nobody counts.
	Traffic() *metrics.Network
	// End takes the last reading; the cgroup must still be there. Further calls do nothing.
	End()
	// Undo is End for a container that came to nothing.
	Undo()
}

// follow begins what goes on beside a new container: its account and the redirection of its connections. Without the
// second it must not run.
func (s *Service) follow(ctx context.Context, r *taskpb.CreateTaskRequest, pid int) error {
	b, err := bundle.Open(r.Bundle)
	if err != nil {
		return err
	}
	var seen Observation
	if s.hooks.Observer != nil {
		if seen, err = s.hooks.Observer.Observe(r.Id, b.Spec.Annotations, pid); err != nil {
			slog.Warn("Linux container is not accounted for", "id", r.Id, "error", err)
		}
	}
	free := func() {}
	if s.hooks.Steer != nil {
		free, err = s.hooks.Steer(ctx, r.Id, b.Spec.Annotations, pid)
		if err != nil && seen != nil {
			seen.Undo()
		}
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free[r.Id] = free
	if seen != nil {
		s.seen[r.Id] = seen
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
func (s *Service) Start(ctx context.Context, r *taskpb.ProcessRequest) (*taskpb.PidResponse, error) {
	if o := s.observation(r.Id); o != nil && r.ExecId == "" {
		o.Ready(ctx)
	}
	return s.client.Start(ctx, r)
}

// Delete ends what goes on beside the container first, for runc removes the cgroup with it.
func (s *Service) Delete(ctx context.Context, r *taskpb.ProcessRequest) (*taskpb.DeleteResponse, error) {
	if r.ExecId != "" {
		return s.client.Delete(ctx, r)
	}
	s.mu.Lock()
	seen, free := s.seen[r.Id], s.free[r.Id]
	s.mu.Unlock()
	over := s.over(ctx, r.Id)
	if over && seen != nil {
		seen.End()
	}
	if over && free != nil {
		free()
	}
	reply, err := s.client.Delete(ctx, r)
	if err == nil {
		s.mu.Lock()
		delete(s.seen, r.Id)
		delete(s.free, r.Id)
		s.mu.Unlock()
	}
	return reply, err
}

// over tells whether runc will delete the container, rather than refuse it because it runs.
func (s *Service) over(ctx context.Context, id string) bool {
	st, err := s.client.State(ctx, &taskpb.ProcessRequest{Id: id})
	return err == nil && (st.Status == taskpb.Status_STOPPED || st.Status == taskpb.Status_CREATED)
}

// Stats are the cgroup's metrics and the container's traffic.
func (s *Service) Stats(ctx context.Context, r *taskpb.ProcessRequest) (*taskpb.StatsResponse, error) {
	reply, err := s.client.Stats(ctx, r)
	o := s.observation(r.Id)
	if err != nil || o == nil || reply.Stats == nil {
		return reply, err
	}
	if n := o.Traffic(); n != nil {
		if reply.Stats.Value, err = metrics.AppendNetwork(reply.Stats.Value, reply.Stats.TypeUrl, n); err != nil {
			return nil, fmt.Errorf("metrics of container %s: %w", r.Id, err)
		}
	}
	return reply, nil
}
