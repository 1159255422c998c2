// Package taskpb is the messages of containerd's task, sandbox and event services. containerd's own packages of them link
// gRPC and protobuf's reflection in, which every pod's server would carry (docs/rationale/server.md).
package taskpb

//go:generate sh -c "go tool -modfile=../../conformance/tools/protobuf/go.mod goprotoc -I ../.. --plugin=$(go tool -n -modfile=../../conformance/tools/protobuf/go.mod protoc-gen-go-lite) --go-lite_out=paths=source_relative,features=marshal+unmarshal+size:../.. shim/taskpb/types.proto shim/taskpb/task.proto shim/taskpb/sandbox.proto shim/taskpb/event.proto shim/taskpb/config.proto"
