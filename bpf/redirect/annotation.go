package redirect

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Prefix is what the pod annotations of this package begin with.
const Prefix = "hachi.run/redirect-"

var annotations = map[string]func(*Config, string) error{
	"outbound":            func(c *Config, v string) error { return parsePort(v, &c.Outbound.Port) },
	"outbound-skip-ports": func(c *Config, v string) error { return parsePorts(v, &c.Outbound.SkipPorts) },
	"outbound-skip-cidrs": func(c *Config, v string) error { return parseCIDRs(v, &c.Outbound.SkipCIDRs) },
	"outbound-skip-mark":  func(c *Config, v string) error { return parseMark(v, &c.Outbound.SkipMark) },
	"inbound":             func(c *Config, v string) error { return parsePorts(v, &c.Inbound.Ports) },
	"inbound-skip-ports":  func(c *Config, v string) error { return parsePorts(v, &c.Inbound.SkipPorts) },
	"inbound-skip-cidrs":  func(c *Config, v string) error { return parseCIDRs(v, &c.Inbound.SkipCIDRs) },
	"fail":                func(c *Config, v string) error { return parseFail(v, &c.FailOpen) },
}

// ParseConfig reads a pod's annotations; those that do not begin with [Prefix] are others' and ignored.
//
//	hachi.run/redirect-outbound             port of the endpoint on the pod's loopback; default none
//	hachi.run/redirect-outbound-skip-ports  destination ports that are connected to directly: 25,6000-6010
//	hachi.run/redirect-outbound-skip-cidrs  destinations that are connected to directly: 10.0.0.0/8,fd00::/8
//	hachi.run/redirect-outbound-skip-mark   SO_MARK of sockets that connect directly: 1337 or 0x539
//	hachi.run/redirect-inbound              ports that the endpoint takes: 80,8000-8999, all or none; default none
//	hachi.run/redirect-inbound-skip-ports   ports that are left to the app
//	hachi.run/redirect-inbound-skip-cidrs   peers that reach the app directly
//	hachi.run/redirect-fail                 without an endpoint: closed (default) or open
//
// The error joins every mistake.
func ParseConfig(all map[string]string) (Config, error) {
	var (
		c     Config
		errs  []error
		names []string
	)
	for name := range all {
		if strings.HasPrefix(name, Prefix) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		set, known := annotations[strings.TrimPrefix(name, Prefix)]
		if !known {
			errs = append(errs, fmt.Errorf("annotation %s: not known (known are %s)", name, strings.Join(slices.Sorted(maps.Keys(annotations)), ", ")))
			continue
		}
		if err := set(&c, strings.TrimSpace(all[name])); err != nil {
			errs = append(errs, fmt.Errorf("annotation %s=%q: %w", name, all[name], err))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, c.Validate())
	}
	return c, errors.Join(errs...)
}

func parsePort(v string, port *uint16) error {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return errors.New("not a port (use 1 to 65535)")
	}
	*port = uint16(n)
	return nil
}

func parsePorts(v string, list *[]PortRange) error {
	switch v {
	case "none":
		return nil
	case "all":
		*list = []PortRange{AllPorts}
		return nil
	}
	for _, item := range strings.Split(v, ",") {
		item = strings.TrimSpace(item)
		var r PortRange
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		if parsePort(first, &r.First) != nil || parsePort(last, &r.Last) != nil || r.First > r.Last {
			return fmt.Errorf("%q: not a port or a range of ports (write 80, 8000-8999, several with commas, all or none)", item)
		}
		*list = append(*list, r)
	}
	return nil
}

func parseCIDRs(v string, list *[]netip.Prefix) error {
	for _, item := range strings.Split(v, ",") {
		item = strings.TrimSpace(item)
		p, err := netip.ParsePrefix(item)
		if err != nil {
			addr, addrErr := netip.ParseAddr(item)
			if addrErr != nil || addr.Zone() != "" {
				return fmt.Errorf("%q: not an address or a prefix (write 10.0.0.0/8 or fd00::1, several with commas)", item)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		*list = append(*list, p)
	}
	return nil
}

func parseMark(v string, mark *uint32) error {
	n, err := strconv.ParseUint(v, 0, 32)
	if err != nil || n == 0 {
		return errors.New("not a mark (write 1337 or 0x539; 0 is what every socket has)")
	}
	*mark = uint32(n)
	return nil
}

func parseFail(v string, open *bool) error {
	switch v {
	case "open", "closed":
		*open = v == "open"
		return nil
	}
	return errors.New("write open or closed")
}
