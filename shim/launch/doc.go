// Package launch is the binary that containerd executes: it starts a pod's server, cleans up after
// a container, and says what the runtime can do.
//
// containerd runs it once or twice per container and waits each time, so it is a small static program
// that imports the standard library's cheapest parts only: no reflection, no fmt, no net. It speaks
// every bootstrap protocol from containerd 1.6 to 2.4 (see [Launcher]); all that lives longer than a
// few milliseconds happens in the server, hachi-shim, which it starts inside the pod's namespaces.
package launch
