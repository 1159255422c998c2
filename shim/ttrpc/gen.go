package ttrpc

//go:generate ../../conformance/tools/protobuf/lite.sh marshal+unmarshal+size shim/ttrpc/message.proto
