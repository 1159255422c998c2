// Package taskpb is the messages of containerd's task and sandbox services. containerd's own package of them links gRPC
// in, which every pod's server would carry (docs/rationale/server.md).
package taskpb

// containerd's messages in these are found where its module is.
//go:generate sh -c "go tool -modfile=../../conformance/tools/protobuf/go.mod goprotoc -I ../.. -I $(go list -m -f '{{.Dir}}' github.com/containerd/containerd/api) --plugin=$(go tool -n -modfile=../../conformance/tools/protobuf/go.mod protoc-gen-go) --go_out=paths=source_relative:../.. shim/taskpb/task.proto shim/taskpb/sandbox.proto"
