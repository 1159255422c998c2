package redirect

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig(map[string]string{
		"hachi.run/redirect-outbound":            "4140",
		"hachi.run/redirect-outbound-skip-ports": "25, 6000-6010",
		"hachi.run/redirect-outbound-skip-cidrs": "10.0.0.0/8,fd00::1",
		"hachi.run/redirect-outbound-skip-mark":  "0x539",
		"hachi.run/redirect-inbound":             "all",
		"hachi.run/redirect-inbound-skip-ports":  "4191",
		"hachi.run/redirect-inbound-skip-cidrs":  "192.0.2.1",
		"hachi.run/redirect-fail":                "open",
		"hachi.run/listen":                       "8080",
		"example.org/redirect-outbound":          "nonsense",
	})
	want := Config{
		Outbound: Outbound{
			Port:      4140,
			SkipPorts: []PortRange{{25, 25}, {6000, 6010}},
			SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")},
			SkipMark:  1337,
		},
		Inbound: Inbound{
			Ports:     []PortRange{AllPorts},
			SkipPorts: []PortRange{{4191, 4191}},
			SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")},
		},
		FailOpen: true,
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseConfigOfAPodWithoutAnnotationsRedirectsNothing(t *testing.T) {
	for _, in := range []map[string]string{nil, {"hachi.run/redirect-inbound": "none"}} {
		if got, err := ParseConfig(in); err != nil || !cmp.Equal(got, Config{}) {
			t.Errorf("%v: got %+v, %v", in, got, err)
		}
	}
}

func TestParseConfigNamesEveryMistake(t *testing.T) {
	_, err := ParseConfig(map[string]string{
		"hachi.run/redirect-outbound":            "65536",
		"hachi.run/redirect-outbound-skip-ports": "20-10",
		"hachi.run/redirect-outbound-skip-cidrs": "10.0.0.0/33",
		"hachi.run/redirect-outbound-skip-mark":  "0",
		"hachi.run/redirect-inbound":             "http",
		"hachi.run/redirect-inbound-skip-cidrs":  "fe80::1%eth0",
		"hachi.run/redirect-fail":                "sometimes",
		"hachi.run/redirect-outbund":             "4140",
	})
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{
		`annotation hachi.run/redirect-fail="sometimes": write open or closed`,
		`annotation hachi.run/redirect-inbound="http": "http": not a port or a range of ports (write 80, 8000-8999, several with commas, all or none)`,
		`annotation hachi.run/redirect-inbound-skip-cidrs="fe80::1%eth0": "fe80::1%eth0": not an address or a prefix (write 10.0.0.0/8 or fd00::1, several with commas)`,
		`annotation hachi.run/redirect-outbound="65536": not a port (use 1 to 65535)`,
		`annotation hachi.run/redirect-outbound-skip-cidrs="10.0.0.0/33": "10.0.0.0/33": not an address or a prefix (write 10.0.0.0/8 or fd00::1, several with commas)`,
		`annotation hachi.run/redirect-outbound-skip-mark="0": not a mark (write 1337 or 0x539; 0 is what every socket has)`,
		`annotation hachi.run/redirect-outbound-skip-ports="20-10": "20-10": not a port or a range of ports (write 80, 8000-8999, several with commas, all or none)`,
		`annotation hachi.run/redirect-outbund: not known (known are fail, inbound, inbound-skip-cidrs, inbound-skip-ports, outbound, outbound-skip-cidrs, outbound-skip-mark, outbound-skip-ports)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestValidate(t *testing.T) {
	for want, c := range map[string]Config{
		"ends before it begins":                     {Inbound: Inbound{Ports: []PortRange{{2, 1}}}},
		"not an IPv4 or IPv6 prefix":                {Outbound: Outbound{Port: 1, SkipCIDRs: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}},
		"not an absolute path":                      {Outbound: Outbound{Port: 1, SkipCgroups: []string{"x"}}},
		"outbound exceptions without a redirection": {Outbound: Outbound{SkipMark: 1}},
		"inbound exceptions without a redirection":  {Inbound: Inbound{SkipPorts: []PortRange{{1, 1}}}},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", c, err, want)
		}
	}
}
