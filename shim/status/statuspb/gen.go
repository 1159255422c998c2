// Package statuspb is the message of an error.
package statuspb

//go:generate sh -c "go tool -modfile=../../../conformance/tools/protobuf/go.mod goprotoc -I ../../.. --plugin=$(go tool -n -modfile=../../../conformance/tools/protobuf/go.mod protoc-gen-go-lite) --go-lite_out=paths=source_relative,features=marshal+unmarshal+size:../../.. shim/status/statuspb/status.proto"
