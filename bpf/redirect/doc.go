// Package redirect steers a pod's TCP to the mesh endpoint on the pod's loopback, and what arrives at the pod to the
// endpoint's listeners, without iptables and without a proxy's address in anybody's configuration.
//
// Outbound (outbound.c): cgroup/connect4 and connect6 write the endpoint's address over the one that was asked for and
// keep that one in the socket's storage, where getpeername finds it for the client, and sock_ops carries it to the
// accepted socket, where [Redirector.OriginalDst] finds it for the endpoint. Loopback and UDP are left alone.
//
// Inbound (inbound.c): sk_lookup in the pod's network namespace hands connections to the endpoint's listener with the
// port they were made to: the accepted connection's LocalAddr is where the app would have been.
//
// Without a living endpoint both refuse (ECONNREFUSED) unless [Config].FailOpen says otherwise. Programs and shared
// maps are loaded once for a node and pinned; a pod is a set of pinned links, which work on while no process owns
// them, and one row of settings. Linux 6.1.
//
// What a guest can notice: its local address is the loopback's unless it bound one; a socket bound to a device is bound
// to none after connect; connections of a pod to one endpoint share its address, so about 28000 can be open at once
// (net.ipv4.ip_local_port_range). The zone of a link-local destination is not kept, so an endpoint cannot dial it.
package redirect
