package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/shim/agent/flowpb"
	"github.com/hachi-run/hachi/shim/node"
)

// dial connects to the port that also serves HTTP/1.
func (s *served) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call opens a stream, which ends with the test.
func (s *served) call(t *testing.T, q *flowpb.StreamRequest) grpc.ServerStreamingClient[flowpb.Flow] {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := flowpb.NewFlowsClient(s.dial(t)).Stream(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// follows opens one, and returns when it has begun.
func (s *served) follows(t *testing.T, q *flowpb.StreamRequest) grpc.ServerStreamingClient[flowpb.Flow] {
	t.Helper()
	q.Follow = true
	stream := s.call(t, q)
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

// seqs receives all, or as many as given, and returns their numbers.
func seqs(t *testing.T, stream grpc.ServerStreamingClient[flowpb.Flow], limit int) (got []uint64) {
	t.Helper()
	for len(got) < limit {
		f, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, f.GetSeq())
	}
	return got
}

func (s *served) awaitReaders(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.stream.count() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d readers, want %d", s.stream.count(), want)
		}
	}
}

func TestCallRecent(t *testing.T) {
	db := flowOf("db", 3)
	db.Namespace = "store"
	s := serve(t, &fakeNode{recent: []node.Flow{flowOf("web", 1), flowOf("db", 2), db}})
	for _, tc := range []struct {
		ask  *flowpb.StreamRequest
		want []uint64
	}{
		{&flowpb.StreamRequest{}, []uint64{1, 2, 3}},
		{&flowpb.StreamRequest{Pod: "db"}, []uint64{2, 3}},
		{&flowpb.StreamRequest{Namespace: "default"}, []uint64{1, 2}},
		{&flowpb.StreamRequest{Pod: "db", Namespace: "store"}, []uint64{3}},
		{&flowpb.StreamRequest{Pod: "none"}, nil},
	} {
		if diff := cmp.Diff(tc.want, seqs(t, s.call(t, tc.ask), 10)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tc.ask, diff)
		}
	}
}

// fullFlow has a value in every field that its kind has.
func fullFlow(kind flow.Kind) node.Flow {
	f := flowOf("web", 7)
	f.Kind, f.Time = kind, time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	original := netip.MustParseAddrPort("[2001:db8::1]:443")
	f.Original = &original
	if kind == flow.KindDNS {
		f.Connection = nil
		f.DNS = &flow.DNS{ID: 9, Response: true, Name: "web.local.", Type: "A", RCode: "Success", Addresses: []string{"10.0.0.2"}, Truncated: true}
		return f
	}
	rtt := int64(30)
	f.Connection = &node.Connection{TxBytes: 1, RxBytes: 2, RTT: &rtt, Duration: 4, Retransmits: 5, Verdict: flow.Failed, Error: "connection refused"}
	return f
}

// plain turns JSON into names and strings: 64 bits are a string in protobuf's JSON, and a number in ours.
func plain(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var strs func(map[string]any) map[string]any
	strs = func(in map[string]any) map[string]any {
		for name, v := range in {
			if inner, ok := v.(map[string]any); ok {
				in[name] = strs(inner)
			} else {
				in[name] = fmt.Sprint(v)
			}
		}
		return in
	}
	return strs(fields)
}

// TestCallSaysWhatJSONSays compares a message, turned into JSON, with the line of the same flow.
func TestCallSaysWhatJSONSays(t *testing.T) {
	for _, kind := range []flow.Kind{flow.KindConn, flow.KindDNS} {
		f := fullFlow(kind)
		s := serve(t, &fakeNode{recent: []node.Flow{f}})
		m, err := s.call(t, &flowpb.StreamRequest{}).Recv()
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain(t, encode(&f)), plain(t, text)); diff != "" {
			t.Errorf("%s (-JSON +gRPC):\n%s", kind, diff)
		}
	}
}

// TestCallHasTheFieldsOfJSON fails when a field is added to one of them only.
func TestCallHasTheFieldsOfJSON(t *testing.T) {
	for _, tc := range []struct {
		message protoreflect.ProtoMessage
		record  reflect.Type
		extra   string // which in JSON is a line of its own
	}{
		{&flowpb.Flow{}, reflect.TypeFor[node.Flow](), "missed"},
		{&flowpb.DNS{}, reflect.TypeFor[flow.DNS](), ""},
	} {
		want := map[string]bool{}
		for _, f := range reflect.VisibleFields(tc.record) {
			if !f.Anonymous {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				want[name] = true
			}
		}
		if tc.extra != "" {
			want[tc.extra] = true
		}
		got := map[string]bool{}
		for fields, k := tc.message.ProtoReflect().Descriptor().Fields(), 0; k < fields.Len(); k++ {
			if f := fields.Get(k); string(f.Name()) != f.JSONName() {
				t.Errorf("%s becomes %s in JSON", f.FullName(), f.JSONName())
			}
			got[string(fields.Get(k).Name())] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-JSON +gRPC):\n%s", tc.record, diff)
		}
	}
}

// TestCallSurvivesAnyName: a container may ask DNS for any bytes.
func TestCallSurvivesAnyName(t *testing.T) {
	f := fullFlow(flow.KindDNS)
	f.DNS.Name = "a\xffb."
	m, err := serve(t, &fakeNode{recent: []node.Flow{f}}).call(t, &flowpb.StreamRequest{}).Recv()
	if err != nil {
		t.Fatal(err)
	}
	if name := m.GetDns().GetName(); name != "a"+string(utf8.RuneError)+"b." {
		t.Errorf("%q", name)
	}
}

func TestCallFollow(t *testing.T) {
	n := &fakeNode{flows: make(chan node.Flow), recent: []node.Flow{flowOf("old", 1)}}
	s := serve(t, n)
	all, web := s.follows(t, &flowpb.StreamRequest{}), s.follows(t, &flowpb.StreamRequest{Pod: "web", Namespace: "default"})
	lines := s.follow(t, "")
	n.flows <- flowOf("db", 2)
	n.flows <- flowOf("web", 3)
	if diff := cmp.Diff([]uint64{2, 3}, seqs(t, all, 2)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint64{3}, seqs(t, web, 1)); diff != "" {
		t.Errorf("pod web (-want +got):\n%s", diff)
	}
	n.flows <- flowOf("web", 4)
	for _, want := range []string{`"seq":2,`, `"seq":3,`, `"seq":4,`} {
		if line := next(t, lines); !strings.Contains(line, want) {
			t.Errorf("got line %s, want one with %s", line, want)
		}
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop with followers: %v", err)
	}
	// What had come is told before the end.
	if diff := cmp.Diff([]uint64{4}, seqs(t, web, 1)); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
	if _, err := web.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "agent is ending") {
		t.Errorf("after the end: %v", err)
	}
}

// TestCallTellsMissed sends more than a connection takes that nobody reads. What is received and what is missed is all.
func TestCallTellsMissed(t *testing.T) {
	n := &fakeNode{flows: make(chan node.Flow)}
	s := serve(t, n)
	stream := s.follows(t, &flowpb.StreamRequest{})
	f := flowOf("web", 0)
	f.Error = strings.Repeat("x", 16<<10) // so that windows and buffers fill soon
	for s.stream.dropped.Load() < 5 {
		f.Seq++
		n.flows <- f
	}
	var received, missed uint64
	for received+missed < f.Seq {
		m, err := stream.Recv()
		if err != nil {
			t.Fatalf("%v; of %d flows %d came and %d were missed", err, f.Seq, received, missed)
		}
		received++
		missed += m.GetMissed()
	}
	if missed != s.stream.dropped.Load() || received+missed != f.Seq {
		t.Errorf("of %d flows %d came and %d were missed; want %d missed", f.Seq, received, missed, s.stream.dropped.Load())
	}
	n.flows <- flowOf("web", 1)
	if m, err := stream.Recv(); err != nil || m.GetMissed() != 0 {
		t.Errorf("%v, and again %d missed", err, m.GetMissed())
	}
}

// TestCallIsCancelled: the server forgets a client that goes, and its goroutines end, as TestMain sees.
func TestCallIsCancelled(t *testing.T) {
	s := serve(t, &fakeNode{flows: make(chan node.Flow)})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn := s.dial(t)
	stream, err := flowpb.NewFlowsClient(conn).Stream(ctx, &flowpb.StreamRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	s.awaitReaders(t, 1)
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("after cancel: %v", err)
	}
	s.awaitReaders(t, 0)

	// And one that goes without a word.
	s.follows(t, &flowpb.StreamRequest{})
	gone := s.dial(t)
	if _, err := flowpb.NewFlowsClient(gone).Stream(context.Background(), &flowpb.StreamRequest{Follow: true}); err != nil {
		t.Fatal(err)
	}
	s.awaitReaders(t, 2)
	gone.Close()
	s.awaitReaders(t, 1)
}

func TestCallRefusals(t *testing.T) {
	n := &fakeNode{flows: make(chan node.Flow)}
	s := serve(t, n)
	newer := &flowpb.StreamRequest{Pod: "web"}
	newer.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 1))
	refused := func(what string, q *flowpb.StreamRequest, code codes.Code, text string) {
		t.Helper()
		if _, err := s.call(t, q).Recv(); status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
			t.Errorf("%s: %v, want %v with %q", what, err, code, text)
		}
	}
	refused("a field that is not there", newer, codes.InvalidArgument, "pod, namespace and follow")
	n.fail(errors.New("ledger: permission denied"))
	refused("a node that cannot be read", &flowpb.StreamRequest{}, codes.Unavailable, "permission denied")
	for range maxReaders {
		if s.stream.join(node.Filter{}.Match) == nil {
			t.Fatal("refused too early")
		}
	}
	refused("one too many", &flowpb.StreamRequest{Follow: true}, codes.Unavailable, "16 readers")

	err := s.dial(t).Invoke(t.Context(), "/hachi.flow.v1.Flows/Nothing", &flowpb.StreamRequest{}, &flowpb.Flow{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that is not there: %v", err)
	}
}

func TestCallHealth(t *testing.T) {
	n := &fakeNode{}
	s := serve(t, n)
	health := healthpb.NewHealthClient(s.dial(t))
	check := func(service string, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != want {
			t.Errorf("%q is %v, %v; want %v", service, got.GetStatus(), err, want)
		}
	}
	check("", healthpb.HealthCheckResponse_SERVING)
	check("hachi.flow.v1.Flows", healthpb.HealthCheckResponse_SERVING)
	if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "flows"}); status.Code(err) != codes.NotFound {
		t.Errorf("another service: %v", err)
	}
	n.fail(errors.New("ledger: permission denied"))
	check("", healthpb.HealthCheckResponse_NOT_SERVING)
}

// TestCallReflection asks what grpcurl asks.
func TestCallReflection(t *testing.T) {
	s := serve(t, &fakeNode{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	info, err := reflectionpb.NewServerReflectionClient(s.dial(t)).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []*reflectionpb.ServerReflectionRequest{
		{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}},
		{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "hachi.flow.v1.Flows"}},
	} {
		if err := info.Send(q); err != nil {
			t.Fatal(err)
		}
		reply, err := info.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if reply.GetErrorResponse() != nil || !strings.Contains(reply.String(), "hachi.flow.v1") {
			t.Errorf("%v: %v", q, reply)
		}
	}
	if err := info.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := info.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
