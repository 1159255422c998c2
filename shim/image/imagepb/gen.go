// Package imagepb is the messages of containerd's services that package image asks. containerd's own packages of them link
// gRPC and protobuf's reflection in, which every pod's server would carry (docs/rationale/server.md).
package imagepb

//go:generate sh -c "go tool -modfile=../../../conformance/tools/protobuf/go.mod goprotoc -I ../../.. --plugin=$(go tool -n -modfile=../../../conformance/tools/protobuf/go.mod protoc-gen-go-lite) --go-lite_out=paths=source_relative,features=marshal+unmarshal+unmarshal_unsafe+size:../../.. shim/image/imagepb/image.proto"
