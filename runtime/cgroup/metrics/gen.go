package metrics

//go:generate sh -c "go tool -modfile=../../../conformance/tools/protobuf/go.mod goprotoc -I . --plugin=$(go tool -n -modfile=../../../conformance/tools/protobuf/go.mod protoc-gen-go-lite) --go-lite_out=paths=source_relative,features=marshal+size:. shared.proto v1.proto v2.proto"
