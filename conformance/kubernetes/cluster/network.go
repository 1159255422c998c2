package cluster

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeBridge gives the host its address in the nodes' network, and routes to pods and services. A bridge of
// that name is a trace of an earlier cluster, whose end is down's business.
func makeBridge(nodes []machine) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge %s: %w", bridgeName, err)
	}
	if err := addAddress(bridge, hostCIDR); err != nil {
		return err
	}
	routes := map[string]string{serviceCIDR: nodes[0].ip()} // its kube-proxy knows all services
	for _, m := range nodes {
		routes[m.pods()] = m.ip()
	}
	return addRoutes(routes)
}

// plug joins the network namespace of a process, as eth0, to the bridge.
func plug(m machine, pid int) error {
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	// What a node that was killed had goes with its namespace, a little later than the node.
	if old, err := netlink.LinkByName(m.veth()); err == nil {
		_ = netlink.LinkDel(old)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: m.veth(), MasterIndex: bridge.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth %s: %w", m.veth(), err)
	}
	return netlink.LinkSetUp(veth)
}

// configureNetwork runs in the node's network namespace.
func configureNetwork(m machine, nodes []machine) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := addAddress(eth0, m.ip()+"/24"); err != nil {
		return err
	}
	routes := map[string]string{"0.0.0.0/0": hostIP}
	for _, other := range nodes {
		if other != m {
			routes[other.pods()] = other.ip()
		}
	}
	return addRoutes(routes)
}

func addAddress(link netlink.Link, cidr string) error {
	address, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, cidr, err)
	}
	return netlink.LinkSetUp(link)
}

func addRoutes(routes map[string]string) error {
	for cidr, via := range routes {
		_, to, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.ParseIP(via)}); err != nil {
			return fmt.Errorf("route %s via %s: %w (is the network in use on this machine?)", cidr, via, err)
		}
	}
	return nil
}

// removeBridge removes the bridge, with it the routes, and the host's ends of nodes' links.
func removeBridge() error {
	names := []string{bridgeName}
	for _, m := range machines(maxNodes) {
		names = append(names, m.veth())
	}
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if err != nil {
			if errors.As(err, &netlink.LinkNotFoundError{}) {
				continue
			}
			return err
		}
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}
