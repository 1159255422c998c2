package containerd

import (
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestPodAccounting has two containers of one pod call each other: both are in one network namespace, and each has an
// account of its own, with the names that Kubernetes knows it by.
func TestPodAccounting(t *testing.T) {
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
		p := n.pod(t, map[string]string{"hachi.run/listen": "none"})
		main := p.start(t, "main", n.image, 256<<20, "serve", ":8081")
		side := p.start(t, "side", peerLinux, 64<<20, "call", "127.0.0.1:8081", itoa(callSize), itoa(calls), "stay")
		p.logged(t, "side", "called")
		r, s := n.accounts(t, main, calls, 0), n.accounts(t, side, 0, calls)
		if r.RxBytes != s.TxBytes || r.TxBytes != s.RxBytes || r.RxPackets != s.TxPackets || r.TxPackets != s.RxPackets {
			t.Errorf("what one sends the other gets: %+v, %+v", r, s)
		}
		for name, r := range map[string]string{"main": r.Namespace + "/" + r.Pod + "/" + r.Container, "side": s.Namespace + "/" + s.Pod + "/" + s.Container} {
			if want := "default/" + p.config.Metadata.Name + "/" + name; r != want {
				t.Errorf("%s is called %s, want %s", name, r, want)
			}
		}
		for id, calls := range map[string][2]uint64{main: {calls, 0}, side: {0, calls}} {
			if _, err := n.rt.StopContainer(n.ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 0}); err != nil {
				t.Error(err)
			}
			if _, err := n.rt.RemoveContainer(n.ctx, &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
				t.Error(err)
			}
			if x := n.exitOf(t, id); conversed(x.Reading, calls[0], calls[1]) != nil || x.Pod != p.config.Metadata.Name || x.UID != p.config.Metadata.Uid {
				t.Errorf("in the record: %+v", x)
			}
		}
	})
}
