package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/docker/go-units"

	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/shim/node"
)

// flowLine has fixed columns, because lines come one at a time.
const flowLine = "%-15s  %-24s  %-3s  %-4s  %-21s  %-28s  %9s  %9s  %8s  %5s  %9s  %s\n"

func writeFlowTitles(out io.Writer) error {
	_, err := fmt.Fprintf(out, flowLine, "TIME", "POD", "DIR", "KIND", "LOCAL", "PEER", "SENT", "RECEIVED", "RTT", "RETR", "DURATION", "VERDICT")
	return err
}

func writeFlow(out io.Writer, f *node.Flow) error {
	pod := cmp.Or(f.Pod, "?")
	if f.Container != f.Pod {
		pod += "/" + f.Container
	}
	columns := []any{f.Time.Local().Format("15:04:05.000000"), harmless(pod), f.Direction}
	if f.DNS != nil {
		_, err := fmt.Fprintf(out, "%-15s  %-24s  %-3s  %-4s  %-21s  %-28s  %s\n", append(columns, "dns", f.Local, f.Peer, dnsText(f.DNS))...)
		return err
	}
	peer := f.Peer.String()
	if f.Original != nil {
		peer = f.Original.String() + " by " + peer
	}
	kind := f.Protocol
	if f.Kind == flow.KindOpen {
		kind = "open"
	}
	columns = append(columns, kind, f.Local, peer)
	if c := f.Connection; c != nil {
		rtt := "-"
		if c.RTT != nil {
			rtt = micros(float64(*c.RTT))
		}
		verdict := string(c.Verdict)
		if c.Error != "" {
			verdict += ": " + c.Error
		}
		columns = append(columns, units.HumanSizeWithPrecision(float64(c.TxBytes), 3), units.HumanSizeWithPrecision(float64(c.RxBytes), 3),
			rtt, fmt.Sprint(c.Retransmits), micros(float64(c.Duration)), harmless(verdict))
	} else {
		columns = append(columns, "-", "-", "-", "-", "-", "-")
	}
	_, err := fmt.Fprintf(out, flowLine, columns...)
	return err
}

// dnsText is a question as "A example.org.?", and an answer with what it says.
func dnsText(d *flow.DNS) string {
	text := d.Type + " " + d.Name
	if !d.Response {
		return harmless(text) + "?"
	}
	text += " " + d.RCode
	if len(d.Addresses) > 0 {
		text += " " + strings.Join(d.Addresses, " ")
	}
	if d.Truncated {
		text += " (cut)"
	}
	return harmless(text)
}

// notLoaded tells whether an error says that no pod has loaded the programs yet.
func notLoaded(err error) bool { return errors.Is(err, fs.ErrNotExist) }
