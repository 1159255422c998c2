// Package clientsuite runs containerd's own client tests against a runtime: first runc's shim, which
// shows that the machine can pass them, then hachi's with the same Linux image, which shows that Linux containers
// lose nothing by going through hachi.
//
// The suite wants an image from the Internet by name, containerd's default directories and its own daemon. So it
// runs in network and mount namespaces of its own, where a registry on loopback has that name and the
// directories of sockets are empty file systems in memory.
package clientsuite
