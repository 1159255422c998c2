// Package flowpb is the agent's flow stream in gRPC: hachi.flow.v1.
package flowpb

// goprotoc is protoc in Go; go tool -n builds a plugin and says where it is.
//go:generate sh -c "go tool -modfile=../../../conformance/tools/protobuf/go.mod goprotoc -I ../../.. --plugin=$(go tool -n -modfile=../../../conformance/tools/protobuf/go.mod protoc-gen-go) --plugin=$(go tool -n -modfile=../../../conformance/tools/protobuf/go.mod protoc-gen-go-grpc) --go_out=paths=source_relative:../../.. --go-grpc_out=paths=source_relative:../../.. shim/agent/flowpb/flow.proto"
