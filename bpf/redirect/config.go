package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
)

// Config is what a pod wants redirected. The zero value redirects nothing.
type Config struct {
	Outbound Outbound
	Inbound  Inbound
	// FailOpen lets connections go where they wanted to while no endpoint listens. The default refuses them.
	FailOpen bool
}

// Outbound is about connections that the pod makes.
type Outbound struct {
	// Port of the endpoint on 127.0.0.1 and ::1 in the pod's network namespace; 0 redirects nothing.
	Port uint16
	// SkipPorts and SkipCIDRs are destinations that are connected to directly.
	SkipPorts []PortRange
	SkipCIDRs []netip.Prefix
	// SkipCgroups are directories below the pod's cgroups whose sockets connect directly.
	SkipCgroups []string
	// SkipMark is an SO_MARK whose sockets connect directly; 0: none. Whoever has CAP_NET_ADMIN or CAP_NET_RAW can set
	// a mark, so it keeps no guest with those from going around the endpoint.
	SkipMark uint32
}

// Inbound is about connections to the pod from outside its network namespace.
type Inbound struct {
	// Ports that the endpoint takes; none redirects nothing, [AllPorts] everything.
	Ports []PortRange
	// SkipPorts are left to the app, SkipCIDRs are peers that reach the app directly, such as the node's probes.
	SkipPorts []PortRange
	SkipCIDRs []netip.Prefix
}

// PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// AllPorts is every port.
var AllPorts = PortRange{First: 0, Last: 65535}

func (r PortRange) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Validate returns every mistake in the settings, joined.
func (c Config) Validate() error {
	var errs []error
	for name, ports := range map[string][]PortRange{
		"outbound skip ports": c.Outbound.SkipPorts,
		"inbound ports":       c.Inbound.Ports,
		"inbound skip ports":  c.Inbound.SkipPorts,
	} {
		for _, r := range ports {
			if r.First > r.Last {
				errs = append(errs, fmt.Errorf("redirect: %s: %s: ends before it begins", name, r))
			}
		}
	}
	for name, prefixes := range map[string][]netip.Prefix{
		"outbound skip cidrs": c.Outbound.SkipCIDRs,
		"inbound skip cidrs":  c.Inbound.SkipCIDRs,
	} {
		for _, p := range prefixes {
			if !p.IsValid() || p.Addr().Is4In6() {
				errs = append(errs, fmt.Errorf("redirect: %s: %s: not an IPv4 or IPv6 prefix (an IPv4 one also covers its mapped addresses)", name, p))
			}
		}
	}
	for _, dir := range c.Outbound.SkipCgroups {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("redirect: outbound skip cgroups: %q: not an absolute path", dir))
		}
	}
	if c.Outbound.Port == 0 && (len(c.Outbound.SkipPorts) > 0 || len(c.Outbound.SkipCIDRs) > 0 || len(c.Outbound.SkipCgroups) > 0 || c.Outbound.SkipMark != 0) {
		errs = append(errs, errors.New("redirect: outbound exceptions without a redirection (set the endpoint's port)"))
	}
	if len(c.Inbound.Ports) == 0 && (len(c.Inbound.SkipPorts) > 0 || len(c.Inbound.SkipCIDRs) > 0) {
		errs = append(errs, errors.New("redirect: inbound exceptions without a redirection (set the ports that it is about, or all)"))
	}
	return errors.Join(errs...)
}
