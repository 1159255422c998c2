// Package images makes, in memory, one image of every layout in which Wasm is found in registries, so
// that tests can feed them to the reader, to a registry and to a real containerd.
//
// It shares no code with package pack on purpose: a mistake in the builder must not hide one in the
// reader.
package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"sort"
)

// Verdict is what containerd does with a layout, whatever the shim is.
type Verdict int

const (
	// OK: it reaches the shim without special flags.
	OK Verdict = iota
	// NeedsPlatform: only with --platform wasip1/wasm.
	NeedsPlatform
	// NeedsCommand: only when the pod or the command line says what to run.
	NeedsCommand
	// Refused: containerd fails before the shim is asked.
	Refused
)

// Layout is one image.
type Layout struct {
	// Name is its letter in docs/images.md, for example "A".
	Name string
	// About says in a few words what is special about it.
	About string
	// Ref is the name under which the archive is imported.
	Ref string
	// Archive is an OCI archive (tar).
	Archive []byte
	// Blobs are the contents by digest.
	Blobs map[string][]byte
	// Target is what Ref names: a manifest or an index.
	Target Descriptor
	// Layers are the digests of the tar layers that containerd unpacks on this host, the lowest first.
	Layers []string
	// Args is the command that the image's config gives, or one to pass where it gives none.
	Args []string
	// Ctr and CRI are the verdicts of containerd 2.4 for `ctr run` and for a pod, with its default
	// config; Ctr17 and CRI17 those of containerd 1.7.
	Ctr, CRI, Ctr17, CRI17 Verdict
}

// Descriptor points at a blob.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *Platform         `json:"platform,omitempty"`
}

// Platform is an index entry's.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// Media types that the layouts are made of.
const (
	Manifest   = "application/vnd.oci.image.manifest.v1+json"
	Index      = "application/vnd.oci.image.index.v1+json"
	Config     = "application/vnd.oci.image.config.v1+json"
	WasmConfig = "application/vnd.wasm.config.v0+json"
	TarLayer   = "application/vnd.oci.image.layer.v1.tar"
	WasmLayer  = "application/wasm"

	bytecodeLayer = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
	wasmToOCI     = "application/vnd.wasm.config.v1+json"
	contentLayer  = "application/vnd.wasm.content.layer.v1+wasm"
	emptyConfig   = "application/vnd.oci.empty.v1+json"
)

type object = map[string]any

// maker collects the blobs of one image.
type maker struct{ blobs map[string][]byte }

func (m *maker) put(mediaType string, content []byte) Descriptor {
	digest := Digest(content)
	m.blobs[digest] = content
	return Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(content))}
}

func (m *maker) titled(mediaType, title string, content []byte) Descriptor {
	d := m.put(mediaType, content)
	d.Annotations = map[string]string{"org.opencontainers.image.title": title}
	return d
}

func (m *maker) manifest(config Descriptor, layers ...Descriptor) Descriptor {
	return m.put(Manifest, encode(object{"schemaVersion": 2, "mediaType": Manifest, "config": config, "layers": layers}))
}

// config is an OCI image config; diff lists what it says the layers unpack to.
func (m *maker) config(os, arch string, diff []string, entrypoint ...string) Descriptor {
	if diff == nil {
		diff = []string{}
	}
	return m.put(Config, encode(object{
		"created": "2024-01-01T00:00:00Z", "os": os, "architecture": arch,
		"config": object{"Entrypoint": entrypoint, "Env": []string{"FROM_IMAGE=yes"}, "WorkingDir": "/", "ExposedPorts": object{"8080/tcp": object{}}},
		"rootfs": object{"type": "layers", "diff_ids": diff},
	}))
}

func (m *maker) index(entries ...Descriptor) Descriptor {
	return m.put(Index, encode(object{"schemaVersion": 2, "mediaType": Index, "manifests": entries}))
}

func on(d Descriptor, os, arch string) Descriptor {
	d.Platform = &Platform{OS: os, Architecture: arch}
	return d
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // only values made in this package
	}
	return raw
}

// Digest is "sha256:<hex>" of content.
func Digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

// Tar makes a layer with one executable file in it.
func Tar(name string, content []byte) []byte {
	return archive([]member{{name, 0o755, content}})
}

type member struct {
	name    string
	mode    int64
	content []byte
}

func archive(members []member) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		header := &tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.content)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			panic(err) // names and sizes are this package's own
		}
		if _, err := w.Write(m.content); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// Archive writes an OCI archive of blobs in which ref names target.
func Archive(ref string, target Descriptor, blobs map[string][]byte) []byte {
	target.Annotations = map[string]string{"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": "v1"}
	members := []member{
		{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", 0o644, encode(object{"schemaVersion": 2, "mediaType": Index, "manifests": []Descriptor{target}})},
	}
	digests := make([]string, 0, len(blobs))
	for digest := range blobs {
		digests = append(digests, digest)
	}
	sort.Strings(digests)
	for _, digest := range digests {
		members = append(members, member{"blobs/sha256/" + digest[len("sha256:"):], 0o644, blobs[digest]})
	}
	return archive(members)
}

// host is the platform that containerd prefers here.
func host() (os, arch string) { return "linux", runtime.GOARCH }
