package images

import "strings"

// Layouts returns one image of every layout, each holding module as the program to run.
func Layouts(module []byte) []Layout {
	out := make([]Layout, 0, len(recipes))
	for _, r := range recipes {
		m := &maker{blobs: map[string][]byte{}}
		l := r.Layout
		l.Ref = "localhost/hachi/layout-" + strings.ToLower(l.Name) + ":v1"
		if l.Args == nil {
			l.Args = []string{"/app.wasm"}
		}
		l.Target, l.Layers = r.make(m, module)
		l.Blobs = m.blobs
		l.Archive = Archive(l.Ref, l.Target, l.Blobs)
		out = append(out, l)
	}
	return out
}

// recipe makes a layout; it returns the target and the tar layers that are unpacked on this host.
type recipe struct {
	Layout
	make func(m *maker, module []byte) (Descriptor, []string)
}

var recipes = []recipe{
	{Layout{Name: "A", About: "OCI config wasip1/wasm, Wasm layer: what hachi build makes"},
		func(m *maker, module []byte) (Descriptor, []string) {
			return m.manifest(m.config("wasip1", "wasm", nil, "/app.wasm"), m.titled(WasmLayer, "app.wasm", module)), nil
		}},
	{Layout{Name: "C", About: "CNCF Wasm artifact (wkg)", Ctr: Refused, CRI: NeedsCommand, Ctr17: Refused, CRI17: NeedsCommand},
		func(m *maker, module []byte) (Descriptor, []string) {
			return m.manifest(m.wasmConfig(module), m.put(WasmLayer, module)), nil
		}},
	{Layout{Name: "D", About: "OCI config of the host, Wasm layer"},
		func(m *maker, module []byte) (Descriptor, []string) {
			os, arch := host()
			return m.manifest(m.config(os, arch, nil, "/app.wasm"), m.put(WasmLayer, module)), nil
		}},
	{Layout{Name: "E", About: "runwasi's older layers with diff_ids", Ctr: Refused, CRI: Refused, Ctr17: Refused, CRI17: Refused},
		func(m *maker, module []byte) (Descriptor, []string) {
			return m.manifest(m.config("wasip1", "wasm", []string{Digest(module)}, "/app.wasm"), m.put(bytecodeLayer, module)), nil
		}},
	{Layout{Name: "F", About: "wasm-to-oci, config {}", Ctr: Refused, CRI: NeedsCommand, Ctr17: Refused, CRI17: NeedsCommand},
		func(m *maker, module []byte) (Descriptor, []string) {
			return m.manifest(m.put(wasmToOCI, []byte("{}")), m.put(contentLayer, module)), nil
		}},
	{Layout{Name: "G", About: "tar layer, wasi/wasm (older buildx)", CRI: Refused},
		func(m *maker, module []byte) (Descriptor, []string) {
			layer := m.put(TarLayer, Tar("app.wasm", module))
			return m.manifest(m.config("wasi", "wasm", []string{layer.Digest}, "/app.wasm"), layer), []string{layer.Digest}
		}},
	{Layout{Name: "H", About: "tar layer, platform of the host"},
		func(m *maker, module []byte) (Descriptor, []string) {
			os, arch := host()
			layer := m.put(TarLayer, Tar("app.wasm", module))
			return m.manifest(m.config(os, arch, []string{layer.Digest}, "/app.wasm"), layer), []string{layer.Digest}
		}},
	{Layout{Name: "I", About: "index with wasip1/wasm alone (buildx with provenance)", Ctr: NeedsPlatform, CRI: Refused, Ctr17: Refused, CRI17: Refused},
		func(m *maker, module []byte) (Descriptor, []string) {
			d := m.manifest(m.config("wasip1", "wasm", nil, "/app.wasm"), m.titled(WasmLayer, "app.wasm", module))
			return m.index(on(d, "wasip1", "wasm")), nil
		}},
	{Layout{Name: "J", About: "index: D for the host, C for wasip1/wasm"},
		func(m *maker, module []byte) (Descriptor, []string) {
			os, arch := host()
			d := m.manifest(m.config(os, arch, nil, "/app.wasm"), m.put(WasmLayer, module))
			c := m.manifest(m.wasmConfig(module), m.put(WasmLayer, module))
			return m.index(on(c, "wasip1", "wasm"), on(d, os, arch)), nil
		}},
	{Layout{Name: "K", About: "OCI config without a platform"},
		func(m *maker, module []byte) (Descriptor, []string) {
			return m.manifest(m.config("", "", nil, "/app.wasm"), m.put(WasmLayer, module)), nil
		}},
	{Layout{Name: "L", About: "tar layer with static files, Wasm layer, platform of the host"},
		func(m *maker, module []byte) (Descriptor, []string) {
			os, arch := host()
			layer := m.put(TarLayer, Tar("static/index.html", []byte("<p>hachi</p>\n")))
			return m.manifest(m.config(os, arch, []string{layer.Digest}, "/app.wasm"), layer, m.titled(WasmLayer, "app.wasm", module)), []string{layer.Digest}
		}},
	{Layout{Name: "M", About: "Wasm layer, OCI's empty config", Ctr: Refused, CRI: NeedsCommand, Ctr17: Refused, CRI17: NeedsCommand},
		func(m *maker, module []byte) (Descriptor, []string) {
			return m.manifest(m.put(emptyConfig, []byte("{}")), m.put(WasmLayer, module)), nil
		}},
	{Layout{Name: "N", About: "like A with two modules; the second is the program"},
		func(m *maker, module []byte) (Descriptor, []string) {
			tool := Variant(module, "tool")
			return m.manifest(m.config("wasip1", "wasm", nil, "/app.wasm"), m.titled(WasmLayer, "tool.wasm", tool), m.titled(WasmLayer, "app.wasm", module)), nil
		}},
}

// wasmConfig is the config of the CNCF's Wasm artifact guidance.
func (m *maker) wasmConfig(module []byte) Descriptor {
	return m.put(WasmConfig, encode(object{
		"created": "2024-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1", "layerDigests": []string{Digest(module)},
	}))
}

// Variant returns module with a custom section of this name (shorter than 64 bytes) at its end: the
// same program with another digest.
func Variant(module []byte, name string) []byte {
	out := append([]byte(nil), module...)
	return append(append(out, 0, byte(1+len(name)), byte(len(name))), name...)
}

// MixedIndex is an index under which the host's platform has one image and wasip1/wasm the other; it
// has no archive.
func MixedIndex(wasm, native Layout) Layout {
	m := &maker{blobs: map[string][]byte{}}
	os, arch := host()
	target := m.index(on(native.Target, os, arch), on(wasm.Target, "wasip1", "wasm"))
	return Layout{Name: "mixed", Target: target, Blobs: m.blobs}
}
