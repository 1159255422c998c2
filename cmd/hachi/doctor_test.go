package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/shim/doctor"
)

var findings = []doctor.Finding{
	{Name: "kernel", Status: doctor.OK, For: "pods", Detail: "Linux 6.1"},
	{Name: "BTF", Status: doctor.Missing, For: "accounting", Detail: "no file", Needs: "another kernel\x1b"},
	{Name: "foreign", Status: doctor.Unknown, For: "accounting", Detail: "the kernel tells root alone"},
}

func TestDoctorTable(t *testing.T) {
	var out bytes.Buffer
	if err := writeFindings(&out, findings, false); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"kernel ok for pods Linux 6.1",
		"BTF missing for accounting no file (needs another kernel?)",
		"foreign cannot tell for accounting (the kernel tells root alone)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDoctor runs it where containerd is not.
func TestDoctor(t *testing.T) {
	h := start(t)
	code, stdout, stderr := h.run(t, "doctor", "--json", "--address", "unix://"+h.dir+"/none.sock")
	if code != exitFailed || stderr != "" {
		t.Errorf("exit code %d, said %q; want 1 and nothing", code, stderr)
	}
	var list []doctor.Finding
	if err := json.Unmarshal([]byte(stdout), &list); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	seen := map[string]doctor.Status{}
	for _, f := range list {
		seen[f.Name] = f.Status
		if f.Status == doctor.Missing && f.Needs == "" || f.Status == doctor.Unknown && f.Detail == "" {
			t.Errorf("%s is %s without a word about it", f.Name, f.Status)
		}
	}
	if seen["containerd"] != doctor.Missing || seen["kernel"] != doctor.OK {
		t.Errorf("containerd is %q, the kernel %q; want missing and ok", seen["containerd"], seen["kernel"])
	}
}
