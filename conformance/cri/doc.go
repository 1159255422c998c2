// Package cri runs critest, the conformance suite of the kubelet's container runtime interface, against containerd: with
// runc, which shows what the machine can pass, and with hachi in the place of runc, with and without a pause container. A
// spec that runc passes must pass with hachi, or stand in a list here with the reason.
//
// The suite wants images from the Internet by name, ports of the host, shared memory of the host and a network of pods. So
// it runs in network, mount and IPC namespaces of its own, see package offline; those of all handlers at once, for it
// mostly waits.
package cri
