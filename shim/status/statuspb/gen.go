// Package statuspb is the message of an error.
package statuspb

//go:generate ../../../conformance/tools/protobuf/lite.sh marshal+unmarshal+size shim/status/statuspb/status.proto
