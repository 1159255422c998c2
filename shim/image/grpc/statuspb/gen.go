// Package statuspb is the message that a gRPC error carries beyond its code and text.
package statuspb

//go:generate sh -c "go tool -modfile=../../../../conformance/tools/protobuf/go.mod goprotoc -I ../../../.. --plugin=$(go tool -n -modfile=../../../../conformance/tools/protobuf/go.mod protoc-gen-go-lite) --go-lite_out=paths=source_relative,features=unmarshal:../../../.. shim/image/grpc/statuspb/status.proto"
