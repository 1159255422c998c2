package agent

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hachi-run/hachi/shim/agent/flowpb"
	"github.com/hachi-run/hachi/shim/node"
)

// rpc answers the calls of gRPC.
type rpc struct {
	flowpb.UnimplementedFlowsServer
	healthpb.UnimplementedHealthServer
	agent *Agent
}

// calls is the server of flowpb.Flows, of health and of reflection. Who serves it stops it.
func (a *Agent) calls() *grpc.Server {
	s := grpc.NewServer(grpc.WaitForHandlers(true))
	service := rpc{agent: a}
	flowpb.RegisterFlowsServer(s, service)
	healthpb.RegisterHealthServer(s, service)
	reflection.Register(s)
	return s
}

// withCalls takes the calls out of what h gets.
func withCalls(calls *grpc.Server, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(newAnswer(w, writeTime), r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Stream sends the recent flows, or those from now on: see flow.proto.
func (s rpc) Stream(q *flowpb.StreamRequest, to grpc.ServerStreamingServer[flowpb.Flow]) error {
	if len(q.ProtoReflect().GetUnknown()) > 0 {
		return status.Error(codes.InvalidArgument, "a field of the request is unknown: this agent knows pod, namespace and follow (is it older than the client?)")
	}
	match := node.Filter{Pod: q.GetPod(), Namespace: q.GetNamespace()}.Match
	if q.GetFollow() {
		return s.follow(match, to)
	}
	flows, err := s.agent.o.Node.Recent()
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	for k := range flows {
		if match(&flows[k]) {
			if err := to.Send(message(&flows[k], 0)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s rpc) follow(match func(*node.Flow) bool, to grpc.ServerStreamingServer[flowpb.Flow]) error {
	reader := s.agent.stream.join(match)
	if reader == nil {
		return status.Error(codes.Unavailable, errFull.Error())
	}
	defer s.agent.stream.leave(reader)
	if err := to.SendHeader(nil); err != nil {
		return err
	}
	for {
		select {
		case <-to.Context().Done():
			return status.FromContextError(to.Context().Err()).Err()
		case f, more := <-reader.flows:
			if !more {
				return status.Error(codes.Unavailable, "the agent is ending (try again later)")
			}
			if err := to.Send(message(f, reader.missed.Swap(0))); err != nil {
				return err
			}
		}
	}
}

// Check is as /healthz, for the agent as a whole and for its one service. Watch is not there: nobody tells when the node
// becomes unreadable.
func (s rpc) Check(_ context.Context, q *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if name := q.GetService(); name != "" && name != flowpb.Flows_ServiceDesc.ServiceName {
		return nil, status.Errorf(codes.NotFound, "service %q: not one of this agent", name)
	}
	state := healthpb.HealthCheckResponse_SERVING
	if s.agent.o.Node.Check() != nil {
		state = healthpb.HealthCheckResponse_NOT_SERVING
	}
	return &healthpb.HealthCheckResponse{Status: state}, nil
}

// message is a flow as flow.proto has it.
func message(f *node.Flow, missed uint64) *flowpb.Flow {
	m := &flowpb.Flow{
		Namespace: f.Namespace, Pod: f.Pod, Container: f.Container, Id: f.ID,
		Seq: f.Seq, Time: timestamppb.New(f.Time), Kind: string(f.Kind), Direction: string(f.Direction), Protocol: f.Protocol,
		Local: endpoint(f.Local), Peer: endpoint(f.Peer), Missed: missed,
	}
	if f.Original != nil {
		m.OriginalDestination = endpoint(*f.Original)
	}
	if c := f.Connection; c != nil {
		m.TxBytes, m.RxBytes, m.RttUs, m.DurationUs = c.TxBytes, c.RxBytes, c.RTT, c.Duration
		m.Retransmits, m.Verdict, m.Error = c.Retransmits, string(c.Verdict), c.Error
	}
	if d := f.DNS; d != nil {
		m.Dns = &flowpb.DNS{
			Id: uint32(d.ID), Response: d.Response, Type: d.Type, Rcode: d.RCode, Addresses: d.Addresses, Truncated: d.Truncated,
			// A name is what some container sent, and one string that is not UTF-8 would end the stream.
			Name: strings.ToValidUTF8(d.Name, "\uFFFD"),
		}
	}
	return m
}

// endpoint is an address as JSON has it: empty if there is none.
func endpoint(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
