package layout

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/internal/testenv/images"
)

func TestPorts(t *testing.T) {
	got, err := Ports(map[string]struct{}{"80": {}, "53/UDP": {}, "8000-8002/tcp": {}, "53/tcp": {}})
	want := []Port{{53, "tcp"}, {53, "udp"}, {80, "tcp"}, {8000, "tcp"}, {8001, "tcp"}, {8002, "tcp"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{"", "http", "0", "65536", "9-8", "80/icmp", "-", "1-", "80/tcp/udp"} {
		if _, err := Ports(map[string]struct{}{bad: {}}); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestBareConfig(t *testing.T) {
	if got := images.Digest([]byte("{}")); got != BareConfig {
		t.Errorf("got %s", got)
	}
}

func TestNesting(t *testing.T) {
	for text, want := range map[string]int{`{}`: 1, `{"a":[[]]}`: 3, `"[[["`: 0, `{"\"[[":"["}`: 1, `]]][`: 0} {
		if got := nesting([]byte(text)); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func FuzzDocuments(f *testing.F) {
	for _, l := range images.Layouts([]byte("\x00asm\x01\x00\x00\x00")) {
		for _, blob := range l.Blobs {
			f.Add(blob)
		}
	}
	f.Add([]byte(`{"config":{"ExposedPorts":{"1-65535/udp":{},"80":{}}}}`))
	f.Add([]byte(`{"layers":null,"manifests":[{"platform":null}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := ParseManifest(raw); err == nil {
			for _, d := range m.Layers {
				if algorithm, sum, err := ParseDigest(d.Digest); err != nil || strings.ContainsAny(algorithm+sum, "/.\x00") || d.Size < 0 {
					t.Errorf("manifest let through layer %+v", d)
				}
			}
		}
		if x, err := ParseIndex(raw); err == nil {
			for _, d := range x.Manifests {
				if CheckDescriptor(d) != nil {
					t.Errorf("index let through %+v", d)
				}
			}
		}
		if c, err := ParseConfig(raw); err == nil {
			all, _ := Ports(c.Config.ExposedPorts)
			if len(all) > 1<<17 {
				t.Errorf("%d ports", len(all))
			}
			for _, p := range all {
				if p.Number == 0 {
					t.Errorf("port 0 from %s", raw)
				}
			}
		}
	})
}
