package layout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What image-spec's own types write is what ours read.
func TestSchemaIsImageSpecs(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	now := time.Now()
	theirs := ocispec.Descriptor{
		MediaType: "type", Digest: a, Size: 1 << 40, URLs: []string{"url"}, Annotations: map[string]string{ocispec.AnnotationTitle: "title"}, Data: []byte("data"),
		Platform: &ocispec.Platform{Architecture: "wasm", OS: "wasip1", OSVersion: "1", OSFeatures: []string{"x"}, Variant: "v"}, ArtifactType: "artifact",
	}
	ours := Descriptor{
		MediaType: "type", Digest: a.String(), Size: 1 << 40, Annotations: map[string]string{AnnotationTitle: "title"},
		Platform: &Platform{OS: "wasip1", Architecture: "wasm"},
	}
	read := func(sent, got, want any) {
		t.Helper()
		raw, err := json.Marshal(sent)
		if err == nil {
			err = json.Unmarshal(raw, got)
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
	}
	read(ocispec.Manifest{Config: theirs, Layers: []ocispec.Descriptor{theirs, theirs}}, new(Manifest), &Manifest{ours, []Descriptor{ours, ours}})
	read(ocispec.Index{Manifests: []ocispec.Descriptor{theirs}}, new(Index), &Index{[]Descriptor{ours}})
	read(ocispec.Image{
		Created: &now, Author: "me", Platform: *theirs.Platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{a, b}}, History: []ocispec.History{{Comment: "c"}},
		Config: ocispec.ImageConfig{
			User: "u", ExposedPorts: map[string]struct{}{"80/tcp": {}}, Env: []string{"A=b"}, Entrypoint: []string{"e"}, Cmd: []string{"c", "d"}, WorkingDir: "/w",
			Volumes: map[string]struct{}{"/v": {}}, Labels: map[string]string{"l": "m"}, StopSignal: "TERM",
		},
	}, new(Image), &Image{
		*ours.Platform, ImageConfig{map[string]struct{}{"80/tcp": {}}, []string{"A=b"}, []string{"e"}, []string{"c", "d"}, "/w"}, RootFS{[]string{a.String(), b.String()}},
	})
}
