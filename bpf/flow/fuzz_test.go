package flow

import (
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func memory(r *flowRecord) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r))
}

// FuzzDecode reads records as the ring hands them out.
func FuzzDecode(f *testing.F) {
	conn := flowRecord{Seq: 1, Time: 5, Protocol: unix.IPPROTO_TCP, Error: 111, Verdict: flowRecordVerdictVERDICT_FAILED}
	conn.Local.Family, conn.Peer.Family, conn.Original.Family = unix.AF_INET, unix.AF_INET6, unix.AF_INET
	f.Add(memory(&conn)[:headSize])
	dns := flowRecord{Kind: flowRecordKindRECORD_DNS, Protocol: unix.IPPROTO_UDP, DnsSize: 600}
	dns.Local.Family, dns.Peer.Family = unix.AF_INET, unix.AF_INET
	f.Add(memory(&dns))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := raw(b)
		if err != nil {
			if len(b) >= headSize {
				t.Fatalf("%d bytes: %v", len(b), err)
			}
			return
		}
		r, err := decode(&got, time.Unix(1, 0))
		if err != nil {
			return
		}
		if r.Protocol == "" || r.Kind == "" || r.Direction == "" || r.Verdict == "" || !r.Local.Addr().IsValid() || !r.Peer.Addr().IsValid() {
			t.Errorf("accepted without a part: %+v", r)
		}
		if (r.Kind == KindDNS) != (r.DNS != nil) {
			t.Errorf("kind %s with DNS %+v", r.Kind, r.DNS)
		}
		if r.DNS != nil && int(got.DnsSize) > len(got.Dns) && !r.DNS.Truncated {
			t.Errorf("a message of %d bytes counts as whole", got.DnsSize)
		}
	})
}

// FuzzDNS compares with a parser that wants the whole message to be right.
func FuzzDNS(f *testing.F) {
	whole := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true, RCode: dnsmessage.RCodeNameError},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.b."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("a.b."), Class: dnsmessage.ClassINET}, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("c.")}},
			{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("c."), Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
			{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("c."), Class: dnsmessage.ClassINET}, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}}},
		},
	}
	b, err := whole.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false)
	f.Add(b[:len(b)-3], true)
	f.Add(b[:15], true)
	f.Add([]byte("?"), false)
	f.Fuzz(func(t *testing.T, b []byte, cut bool) {
		got := parseDNS(b, cut)
		var m dnsmessage.Message
		if m.Unpack(b) != nil {
			return
		}
		if got.ID != m.ID || got.Response != m.Response || got.Truncated != (cut || m.Truncated) {
			t.Errorf("header %+v, want %+v", got, m.Header)
		}
		if len(m.Questions) > 0 && got.Name != m.Questions[0].Name.String() {
			t.Errorf("name %q, want %q", got.Name, m.Questions[0].Name)
		}
		addresses := 0
		for _, a := range m.Answers {
			switch a.Body.(type) {
			case *dnsmessage.AResource, *dnsmessage.AAAAResource:
				if a.Header.Class == dnsmessage.ClassINET {
					addresses++
				}
			}
		}
		if len(m.Questions) > 0 && len(got.Addresses) != addresses {
			t.Errorf("%d addresses, want %d", len(got.Addresses), addresses)
		}
	})
}
