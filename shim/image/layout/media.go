// Package layout knows the documents of an image: media types, manifests, indexes and configs, read
// within limits because strangers wrote them.
package layout

import "strings"

// Names that image-spec does not have.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"

	// BareConfig is the digest of "{}", which several tools push as the config of every Wasm image.
	BareConfig = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

	// LayerWasm is the layer type of images that hachi builds.
	LayerWasm = "application/wasm"
)

// IsWasmLayer says whether a layer of this media type is a Wasm binary.
func IsWasmLayer(mediaType string) bool {
	switch mediaType {
	case LayerWasm,
		"application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", // runwasi
		"application/vnd.wasm.content.layer.v1+wasm",                    // wasm-to-oci, Spin
		"application/vnd.module.wasm.content.layer.v1+wasm":             // Istio's and Envoy's filters
		return true
	}
	return false
}

// IsTarLayer says whether containerd unpacks a layer of this media type into the root file system.
func IsTarLayer(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.") ||
		strings.HasPrefix(mediaType, "application/vnd.erofs.layer.")
}

// IsManifest says whether the type is that of an image manifest.
func IsManifest(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.manifest.v1+json" || mediaType == dockerManifest
}

// IsIndex says whether the type is that of an index of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.index.v1+json" || mediaType == dockerIndex
}

// IsImageConfig says whether the config must be an OCI image config; other types are read as far as
// they happen to look like one.
func IsImageConfig(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.config.v1+json" || mediaType == dockerConfig
}
