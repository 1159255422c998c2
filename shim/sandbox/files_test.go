package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPodFiles(t *testing.T) {
	dir := t.TempDir()
	mounts, err := writeFiles(dir, Config{Hostname: "web-0", Servers: []string{"10.0.0.1", "fd00::1"}, Searches: []string{"a.svc", "svc"}, DNSOptions: []string{"ndots:5"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range mounts {
		if m.Type == "bind" {
			content, err := os.ReadFile(m.Source)
			if err != nil {
				t.Fatal(err)
			}
			got[m.Destination] = string(content)
		}
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"/etc/resolv.conf": "search a.svc svc\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:5\n",
		"/etc/hosts":       string(hosts),
		"/etc/hostname":    "web-0\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if len(mounts) != 4 || mounts[3].Destination != "/dev/shm" {
		t.Errorf("mounts %+v, want /dev/shm last", mounts)
	}
}

func TestAPodWithoutDNSHasTheNodes(t *testing.T) {
	dir := t.TempDir()
	if _, err := writeFiles(dir, Config{}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(resolvConf)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "resolv.conf")); err != nil || string(got) != string(want) {
		t.Errorf("got %q, %v; want the node's %q", got, err, want)
	}
}

func TestWithoutABundleThereAreNoFiles(t *testing.T) {
	if mounts, err := writeFiles("", Config{}); err != nil || mounts != nil {
		t.Errorf("got %v, %v", mounts, err)
	}
}
