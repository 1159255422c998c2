package ttrpc

//go:generate sh -c "go tool -modfile=../../conformance/tools/protobuf/go.mod goprotoc -I ../.. --plugin=$(go tool -n -modfile=../../conformance/tools/protobuf/go.mod protoc-gen-go-lite) --go-lite_out=paths=source_relative,features=marshal+unmarshal+size:../.. shim/ttrpc/message.proto"
