package steer

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/bpf/redirect"
	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

func TestMain(m *testing.M) { os.Exit(bpfenv.Main(m)) }

// asks are annotations of this package, by the ends of their names.
func asks(pairs ...string) map[string]string {
	all := map[string]string{"example.test/other": "x"}
	for i := 0; i < len(pairs); i += 2 {
		all[redirect.Prefix+pairs[i]] = pairs[i+1]
	}
	return all
}

func TestAnnotationsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		words       string
	}{
		"no endpoint":  {asks("outbound", "4140"), "hachi.run/redirect-endpoint"},
		"not a port":   {asks("outbound", "http", "endpoint", "proxy"), `redirect-outbound="http"`},
		"not known":    {asks("outbound", "4140", "endpoint", "proxy", "outbund-skip", "1"), "not known"},
		"for inbound":  {asks("inbound", "80", "endpoint", "proxy"), "redirect-inbound"},
		"several ones": {asks("outbound", "0", "fail", "maybe", "endpoint", "proxy"), "redirect-fail"},
	} {
		s := new(Steerer)
		_, err := s.Attach(t.Context(), Container{ID: "one", Name: "main", Annotations: c.annotations, Cgroup: "/x"})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What nobody asks for costs nothing, also where it could not be.
func TestNothingToDo(t *testing.T) {
	for name, c := range map[string]Container{
		"no annotations":               {Name: "main"},
		"others' annotations":          {Name: "main", Annotations: asks()},
		"an endpoint and nobody else":  {Name: "main", Annotations: asks("endpoint", "proxy")},
		"cannot be, and the pod knows": {Name: "main", Annotations: asks("outbound", "4140", "endpoint", "proxy", "fail", "open")},
	} {
		s := new(Steerer)
		end, err := s.Attach(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		end()
		if s.opened != nil {
			t.Errorf("%s: it has opened something", name)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWithoutCgroup2(t *testing.T) {
	for _, name := range []string{"main", "proxy"} {
		_, err := new(Steerer).Attach(t.Context(), Container{Name: name, Annotations: asks("outbound", "4140", "endpoint", "proxy")})
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "fail=open") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Both sides of a pod: links are there from Attach until the end that it returns, which may be called again.
func TestAttachAndEnd(t *testing.T) {
	testenv.NeedRoot(t)
	s := &Steerer{Options: redirect.Options{Root: bpfenv.BPFFS(t) + "/hachi"}}
	defer s.Close()
	for _, name := range []string{"main", "proxy"} {
		cgroup := bpfenv.Cgroup(t)
		c := Container{ID: name, Name: name, Annotations: asks("outbound", "4140", "endpoint", "proxy"), Cgroup: cgroup}
		end, err := s.Attach(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if n := pinned(t, s.Options.Root); n == 0 {
			t.Errorf("%s: nothing is pinned", name)
		}
		end()
		end()
		if n := pinned(t, s.Options.Root); n != 0 {
			t.Errorf("%s: %d links are left", name, n)
		}
	}
	if _, err := s.Attach(t.Context(), Container{Name: "main", Annotations: asks("outbound", "4140", "endpoint", "proxy"), Cgroup: "/no/such/cgroup"}); err == nil {
		t.Error("a cgroup that is not there is redirected")
	}
}

// pinned counts what is pinned for single cgroups.
func pinned(t *testing.T, root string) (n int) {
	t.Helper()
	versions, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		pods, err := os.ReadDir(root + "/" + v.Name() + "/pod")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods {
			links, err := os.ReadDir(root + "/" + v.Name() + "/pod/" + p.Name())
			if err != nil {
				t.Fatal(err)
			}
			n += len(links)
		}
	}
	return n
}
