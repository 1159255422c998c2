package layout

// What hachi reads of an image's documents (image-spec, descriptor.md, image-index.md, manifest.md and config.md). image-spec's
// own Go package compiles regular expressions at the start of every pod's server (docs/rationale/server.md).

// AnnotationTitle is the annotation of a layer that gives its file's name.
const AnnotationTitle = "org.opencontainers.image.title"

// Descriptor names content.
type Descriptor struct {
	MediaType string `json:"mediaType"`
	// Digest is proven by CheckDescriptor; the Parse functions have done it.
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"` // in bytes
	Annotations map[string]string `json:"annotations"`
	Platform    *Platform         `json:"platform"` // in an index
}

// Platform is what an image is for.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// Index lists manifests and indexes.
type Index struct {
	Manifests []Descriptor `json:"manifests"`
}

// Manifest is one image.
type Manifest struct {
	Config Descriptor   `json:"config"`
	Layers []Descriptor `json:"layers"`
}

// Image is an image's config.
type Image struct {
	Platform
	Config ImageConfig `json:"config"`
	RootFS RootFS      `json:"rootfs"`
}

// ImageConfig is what a container of the image runs.
type ImageConfig struct {
	ExposedPorts map[string]struct{} `json:"ExposedPorts"`
	Env          []string            `json:"Env"`
	Entrypoint   []string            `json:"Entrypoint"`
	Cmd          []string            `json:"Cmd"`
	WorkingDir   string              `json:"WorkingDir"`
}

// RootFS are the digests of the unpacked layers.
type RootFS struct {
	DiffIDs []string `json:"diff_ids"`
}
