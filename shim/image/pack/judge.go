package pack

import (
	"runtime"
	"strings"

	"github.com/hachi-run/hachi/shim/image/layout"
)

// Judgement is what is to be expected of containerd, before hachi is even asked; docs/images.md
// has the table.
type Judgement struct {
	// Layout is the letter in the table; empty for a form that is not in it.
	Layout string `json:"layout,omitempty"`
	// Wasm says that hachi will look for a Wasm module.
	Wasm bool `json:"wasm"`
	// Problem is what will not work and what to do about it; empty when nothing is known.
	Problem string `json:"problem,omitempty"`
}

const (
	problemConfig = "ctr run refuses its config type; a pod needs a command (build it with hachi build)"
	problemBare   = `ctr run refuses its config type; a pod needs a command, and Kubernetes takes all images whose config is "{}" for one (build it with hachi build)`
	problemDiff   = "containerd refuses it: its diff_ids must list the tar layers and nothing else (build it with hachi build)"
	problemTar    = "a pod fails with \"layer not unpacked\" unless containerd has an unpack_config for its platform; ctr run works (build it with hachi build)"
	problemIndex  = "an index without an entry for the host: ctr needs --platform wasip1/wasm, and a pod cannot use it (push the manifest alone, as hachi build does)"
)

// Judge tells an image's layout from its manifests.
func (i *Image) Judge(all []Manifest) Judgement {
	if !layout.IsIndex(i.Target.MediaType) {
		if len(all) != 1 {
			return Judgement{}
		}
		return judge(all[0])
	}
	j := Judgement{Problem: problemIndex}
	wasm := false
	for _, m := range all {
		one := judge(m)
		wasm = wasm || one.Wasm
		if m.Platform.OS == "linux" && m.Platform.Architecture == runtime.GOARCH {
			j = Judgement{Layout: "J", Wasm: one.Wasm, Problem: one.Problem}
		}
	}
	if j.Layout == "" && wasm {
		j.Layout, j.Wasm = "I", true
	}
	return j
}

func judge(m Manifest) Judgement {
	wasm, tars := 0, 0
	for _, d := range m.Manifest.Layers {
		switch {
		case layout.IsWasmLayer(d.MediaType):
			wasm++
		case layout.IsTarLayer(d.MediaType):
			tars++
		}
	}
	linux := m.Platform.OS == "linux"
	image := layout.IsImageConfig(m.Manifest.Config.MediaType)
	switch {
	case wasm == 0 && tars > 0 && linux:
		return Judgement{Layout: "H"}
	case wasm == 0 && tars > 0 && strings.HasPrefix(m.Platform.Architecture, "wasm"):
		return Judgement{Layout: "G", Wasm: true, Problem: problemTar}
	case wasm == 0:
		return Judgement{}
	case !image && m.Manifest.Config.Digest == layout.BareConfig:
		return Judgement{Layout: "F", Wasm: true, Problem: problemBare}
	case !image:
		return Judgement{Layout: "C", Wasm: true, Problem: problemConfig}
	case len(m.Config.RootFS.DiffIDs) != tars:
		return Judgement{Layout: "E", Wasm: true, Problem: problemDiff}
	case tars > 0 && linux:
		return Judgement{Layout: "L", Wasm: true}
	case tars > 0:
		return Judgement{Layout: "G", Wasm: true, Problem: problemTar}
	case linux:
		return Judgement{Layout: "D", Wasm: true}
	case m.Platform.OS == "" && m.Platform.Architecture == "":
		return Judgement{Layout: "K", Wasm: true}
	}
	return Judgement{Layout: "A", Wasm: true}
}
