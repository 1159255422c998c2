package redirect_test

import (
	"context"
	"log"
	"net"
	"net/netip"
	"os"

	"github.com/hachi-run/hachi/bpf/redirect"
	"github.com/hachi-run/hachi/bpf/redirect/standin"
)

// A pod's owner attaches before the first guest runs, and its endpoint serves both directions from the pod's network
// namespace, in which this program is taken to be.
func Example() {
	ctx := context.Background()
	config, err := redirect.ParseConfig(map[string]string{
		"hachi.run/redirect-outbound":           "4140",
		"hachi.run/redirect-inbound":            "all",
		"hachi.run/redirect-inbound-skip-ports": "4191",
	})
	if err != nil {
		log.Fatal(err)
	}
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		log.Fatal(err)
	}
	defer netns.Close()
	r, err := redirect.Open(ctx, redirect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	ids, err := r.Attach(ctx, redirect.Pod{Cgroups: []string{"/sys/fs/cgroup/pod1"}, Netns: netns, Config: config})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Detach(ctx, ids...)

	dial := func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	}
	out, err := redirect.Listen(ctx, nil, "tcp", "127.0.0.1:4140")
	if err != nil {
		log.Fatal(err)
	}
	in, err := redirect.Listen(ctx, nil, "tcp", "127.0.0.1:4143")
	if err != nil {
		log.Fatal(err)
	}
	if err := r.SetInbound(ids[0], in); err != nil {
		log.Fatal(err)
	}
	go standin.Forwarder{Original: r.OriginalDst, Dial: dial}.Serve(ctx, out)
	log.Fatal(standin.Forwarder{Original: standin.Called, Dial: dial}.Serve(ctx, in))
}
