// Package imagepb is the messages of containerd's services that package image asks. containerd's own packages of them link
// gRPC and protobuf's reflection in, which every pod's server would carry (docs/rationale/server.md).
package imagepb

//go:generate ../../../conformance/tools/protobuf/lite.sh marshal+unmarshal+unmarshal_unsafe+size shim/image/imagepb/image.proto
