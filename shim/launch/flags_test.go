package launch

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want flags
	}{
		{"start", []string{"-namespace", "k8s.io", "-address", "/c.sock", "-publish-binary", "/usr/bin/containerd", "-id", "web", "-debug", "start"},
			flags{namespace: "k8s.io", address: "/c.sock", id: "web", debug: true, action: "start"}},
		{"delete", []string{"-namespace", "k8s.io", "-address", "/c.sock", "-publish-binary", "", "-id", "web", "-bundle", "/b", "delete"},
			flags{namespace: "k8s.io", address: "/c.sock", id: "web", bundle: "/b", action: "delete"}},
		{"equals", []string{"--namespace=k8s.io", "-address=/a=b", "-id=", "-debug=false", "--socket=/s", "-debug-socket", "/d", "start"},
			flags{namespace: "k8s.io", address: "/a=b", action: "start"}},
		{"last one counts", []string{"-id", "a", "-id", "b", "-debug", "-debug=0", "start"}, flags{id: "b", action: "start"}},
		{"a value that looks like a flag", []string{"-id", "-debug", "start"}, flags{id: "-debug", action: "start"}},
		{"after the action", []string{"start", "-id", "x"}, flags{action: "start"}},
		{"end of flags", []string{"-v", "--", "-x"}, flags{version: true, action: "-x"}},
		{"end of all", []string{"-info", "--"}, flags{info: true}},
		{"-version", []string{"-version"}, flags{version: true}},
		{"nothing", nil, flags{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseFlags(c.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, *got, cmp.AllowUnexported(flags{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseFlagsRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"read flags: -id: needs a value":             {"-debug", "-id"},
		"read flags: -what: not a flag of this shim": {"-what", "start"},
		"read flags: -debug: not a boolean: maybe":   {"-debug=maybe"},
	} {
		if _, err := parseFlags(args); err == nil || err.Error() != want {
			t.Errorf("%v: got %v, want %s", args, err, want)
		}
	}
}

func TestUnknownActions(t *testing.T) {
	r := newRig(t)
	r.bundle("one", "")
	for want, args := range map[string][]string{
		"hachi: read flags: action: missing (containerd runs this program; want start, delete or -info)\n": {"-id", "x"},
		"hachi: read flags: action \"serve\": not known (want start, delete or -info)\n":                   {"serve"},
	} {
		if got := r.run("one", nil, args...); got != (result{"", want, 1}) {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}
