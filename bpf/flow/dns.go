package flow

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// parseDNS reads as much of a message as there is: what cannot be read is left out, for the sender may be anybody.
func parseDNS(message []byte, cut bool) *DNS {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil {
		return &DNS{Truncated: cut}
	}
	d := &DNS{ID: h.ID, Response: h.Response, Truncated: cut || h.Truncated}
	if h.Response {
		d.RCode = strings.TrimPrefix(h.RCode.String(), "RCode")
	}
	q, err := p.Question()
	if err != nil {
		return d
	}
	d.Name, d.Type = q.Name.String(), strings.TrimPrefix(q.Type.String(), "Type")
	if p.SkipAllQuestions() != nil {
		return d
	}
	for {
		rh, err := p.AnswerHeader()
		if err != nil {
			return d // the section's end, or where the message was cut
		}
		var a netip.Addr
		switch {
		case rh.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case rh.Type == dnsmessage.TypeA:
			var r dnsmessage.AResource
			r, err = p.AResource()
			a = netip.AddrFrom4(r.A)
		case rh.Type == dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			a = netip.AddrFrom16(r.AAAA)
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return d
		}
		if a.IsValid() {
			d.Addresses = append(d.Addresses, a.String())
		}
	}
}
