module github.com/hachi-run/hachi/conformance/tools/bpf

go 1.26.6

tool github.com/cilium/ebpf/cmd/bpf2go

require (
	github.com/cilium/ebpf v0.22.0 // indirect
	golang.org/x/sys v0.43.0 // indirect
)
