package metrics

//go:generate ../../../conformance/tools/protobuf/lite.sh marshal+size runtime/cgroup/metrics/shared.proto runtime/cgroup/metrics/v1.proto runtime/cgroup/metrics/v2.proto
