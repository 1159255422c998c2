// Package taskpb is the messages of containerd's task, sandbox and event services, and what a sandbox needs of CRI's. The
// packages that containerd and CRI publish of them link gRPC and protobuf's reflection in, which every pod's server would
// carry (docs/rationale/server.md).
package taskpb

//go:generate ../../conformance/tools/protobuf/lite.sh marshal+unmarshal+size shim/taskpb/types.proto shim/taskpb/task.proto shim/taskpb/sandbox.proto shim/taskpb/event.proto shim/taskpb/config.proto
