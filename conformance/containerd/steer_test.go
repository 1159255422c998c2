package containerd

import (
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// elsewhere is an address of TEST-NET-2 (RFC 5737): nobody is there.
const elsewhere = "198.51.100.7:80"

// TestPodRedirection has what a pod calls go to an endpoint in the same pod, a Linux container: the caller reaches an
// address that nobody has, and is told by its socket that it is there; the endpoint learns which one it was.
func TestPodRedirection(t *testing.T) {
	needBPF(t)
	forEachPod(t, func(t *testing.T, n *node) {
		if !n.hachi() {
			return
		}
		n.peerImage(t, "k8s.io")
		if n.wasm() {
			n.importArchive(t, "k8s.io", peerArchive(t, false))
		}
		n.seen(t, n.image)
		n.seen(t, peerLinux)
		p := n.pod(t, map[string]string{"hachi.run/listen": "none", "hachi.run/redirect-outbound": "4140", "hachi.run/redirect-endpoint": "proxy"})
		proxy := p.start(t, "proxy", peerLinux, 64<<20, "intercept", "127.0.0.1:4140")
		p.logged(t, "proxy", "serving")
		main := p.start(t, "main", n.image, 256<<20, "call", elsewhere, itoa(callSize), itoa(calls), "stay")
		p.logged(t, "main", "called")
		p.logged(t, "proxy", "asked for "+elsewhere)
		n.accounts(t, main, 0, calls)
		n.accounts(t, proxy, calls, 0)

		// Without the endpoint there is no way around it.
		if _, err := n.rt.StopContainer(n.ctx, &cri.StopContainerRequest{ContainerId: proxy, Timeout: 0}); err != nil {
			t.Fatal(err)
		}
		late := p.start(t, "late", n.image, 256<<20, "call", elsewhere, itoa(callSize), "1")
		if st := n.exited(t, late); st.ExitCode != 1 {
			t.Errorf("without an endpoint the caller ended with %d", st.ExitCode)
		}
		p.logged(t, "late", "refused")
		if x := n.exitOf(t, late); x.ConnectionsRefused == 0 || x.ConnectionsOpened != 0 || x.TxPackets != 0 {
			t.Errorf("in the record of a caller that was refused: %+v", x)
		}
	})
}

// TestRedirectionThatCannotBe: what a pod asks for and does not get keeps it from starting.
func TestRedirectionThatCannotBe(t *testing.T) {
	needBPF(t)
	forEachPod(t, func(t *testing.T, n *node) {
		if !n.hachi() {
			return
		}
		for name, annotations := range map[string]map[string]string{
			"hachi.run/redirect-endpoint": {"hachi.run/redirect-outbound": "4140"},
			"not a port":                  {"hachi.run/redirect-outbound": "http", "hachi.run/redirect-endpoint": "proxy"},
			"hachi.run/redirect-inbound":  {"hachi.run/redirect-inbound": "80", "hachi.run/redirect-endpoint": "proxy"},
		} {
			p := n.pod(t, annotations)
			_, err := p.tryStart("main", n.image, 256<<20, "ready")
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v: got %v", annotations, err)
			}
		}
	})
}
