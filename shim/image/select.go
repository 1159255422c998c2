package image

import (
	"context"
	"fmt"
	"os"
	"path"
	"runtime"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hachi-run/hachi/shim/image/layout"
	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

// read fills the image from its manifest and config and returns the config's digest. form is what the
// entrypoint's file in the root file system is.
func (i *Image) read(ctx context.Context, s *store, target layout.Descriptor, p *specs.Process, form wasmbin.Form) (string, error) {
	sel := selector{store: s, committed: -1, wasmFirst: form.IsWasm()}
	if i.rootfs != nil {
		sel.committed = i.rootfs.committed
	}
	c, err := sel.pick(ctx, target)
	if err != nil {
		return "", err
	}
	i.Digest = c.desc.Digest
	config, err := s.config(ctx, c.manifest.Config)
	if err != nil {
		return "", err
	}
	if i.Ports, err = layout.Ports(config.Config.ExposedPorts); err != nil {
		return "", fmt.Errorf("config %s: %w: %w", c.manifest.Config.Digest, err, errdefs.ErrInvalidArgument)
	}
	i.Entrypoint, i.Cmd = config.Config.Entrypoint, config.Config.Cmd
	i.Env, i.WorkingDir = config.Config.Env, config.Config.WorkingDir
	i.Modules = modules(s, c.manifest, p, i.Entrypoint)
	for _, m := range i.Modules {
		if m.Size > layout.MaxModule {
			return "", fmt.Errorf("module %s: %d bytes exceed %d: %w", m.Name, m.Size, int64(layout.MaxModule), errdefs.ErrInvalidArgument)
		}
	}
	if len(i.Modules) == 0 && !form.IsWasm() && strings.HasPrefix(config.Architecture, "wasm") {
		if i.rootfs == nil && tarLayers(c.manifest) > 0 {
			return "", fmt.Errorf("its module is in a tar layer that this snapshotter does not show: %w (use the overlayfs snapshotter, or build the image with hachi build)",
				errdefs.ErrFailedPrecondition)
		}
		return "", noModule(c.manifest, p)
	}
	return c.manifest.Config.Digest, nil
}

func (s *store) config(ctx context.Context, d layout.Descriptor) (*layout.Image, error) {
	strict := layout.IsImageConfig(d.MediaType)
	if !strict && d.Size > layout.MaxDocument {
		return new(layout.Image), nil
	}
	raw, err := s.document(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	c, err := layout.ParseConfig(raw)
	if err != nil && strict {
		return nil, fmt.Errorf("config %s: %w: %w", d.Digest, err, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return new(layout.Image), nil
	}
	return c, nil
}

// modules lists the Wasm layers, the one to run first: the one whose title is the base name of the
// command, else the first.
func modules(s *store, m *layout.Manifest, p *specs.Process, entrypoint []string) []Module {
	var out []Module
	arg := ""
	if p != nil && len(p.Args) > 0 {
		arg = path.Base(p.Args[0])
	}
	entry := -1
	for _, d := range m.Layers {
		if !layout.IsWasmLayer(d.MediaType) {
			continue
		}
		module := Module{Digest: d.Digest, Size: d.Size, open: func() (*os.File, error) { return s.module(d) }}
		if title := d.Annotations[layout.AnnotationTitle]; title != "" {
			module.Name = path.Base(title)
		}
		if entry < 0 && arg != "" && module.Name == arg {
			entry = len(out)
		}
		out = append(out, module)
	}
	if entry > 0 {
		out[0], out[entry] = out[entry], out[0]
	}
	for k := range out {
		if out[k].Name != "" {
			continue
		}
		switch {
		case k == 0 && len(entrypoint) > 0:
			out[k].Name = path.Base(entrypoint[0])
		case k == 0 && arg != "":
			out[k].Name = arg
		default:
			_, sum, _ := strings.Cut(out[k].Digest, ":")
			out[k].Name = sum[:12] + ".wasm"
		}
	}
	return out
}

// noModule explains an image that says it is Wasm and in which no Wasm was found.
func noModule(m *layout.Manifest, p *specs.Process) error {
	var tars int
	var others []string
	for _, d := range m.Layers {
		if layout.IsTarLayer(d.MediaType) {
			tars++
		} else {
			others = append(others, d.MediaType)
		}
	}
	switch {
	case len(others) > 0:
		return fmt.Errorf("no layer is a Wasm module: %w (found %.200s; hachi takes %s, or a tar layer with the module at the entrypoint)",
			errdefs.ErrFailedPrecondition, strings.Join(others, ", "), layout.LayerWasm)
	case tars == 0:
		return fmt.Errorf("no layers: %w (build the image with hachi build)", errdefs.ErrFailedPrecondition)
	case p == nil || len(p.Args) == 0:
		return fmt.Errorf("no command: %w (set the image's entrypoint or the pod's command to the module's path)", errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("no module at %q in its layers: %w (set the image's entrypoint or the pod's command to the module's path)",
		p.Args[0], errdefs.ErrFailedPrecondition)
}

// candidate is one manifest of an image.
type candidate struct {
	desc     layout.Descriptor
	platform layout.Platform
	manifest *layout.Manifest
}

// selector finds the manifest that containerd made the container from. containerd does not tell; but
// it prefers the host's platform unless it was told otherwise, and the number of layers below the
// container must fit.
type selector struct {
	*store
	committed int
	wasmFirst bool
	seen      int
	all       []candidate
	missing   error
}

func (s *selector) pick(ctx context.Context, target layout.Descriptor) (*candidate, error) {
	if layout.IsManifest(target.MediaType) { // containerd takes a lone manifest for any platform
		m, err := s.read(ctx, target)
		if err != nil {
			return nil, err
		}
		return &candidate{desc: target, manifest: m}, nil
	}
	if err := s.walk(ctx, target, 0); err != nil {
		return nil, err
	}
	rank := func(k int) int { return s.rank(s.all[k].platform) }
	sort.SliceStable(s.all, func(a, b int) bool { return rank(a) < rank(b) })
	for k := range s.all {
		if s.committed < 0 || tarLayers(s.all[k].manifest) == s.committed {
			return &s.all[k], nil
		}
	}
	if len(s.all) > 0 {
		return &s.all[0], nil
	}
	if s.missing != nil {
		return nil, s.missing
	}
	return nil, fmt.Errorf("index %s: no manifest for wasip1/wasm, wasi/wasm or linux/%s: %w (build the image with hachi build, or for one of these)",
		target.Digest, runtime.GOARCH, errdefs.ErrFailedPrecondition)
}

func (s *selector) read(ctx context.Context, d layout.Descriptor) (*layout.Manifest, error) {
	raw, err := s.document(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m, err := layout.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", d.Digest, err, errdefs.ErrInvalidArgument)
	}
	return m, nil
}

// walk collects the manifests below an index whose content is here; a pull fetches only those of one
// platform.
func (s *selector) walk(ctx context.Context, d layout.Descriptor, depth int) error {
	if !layout.IsIndex(d.MediaType) {
		return fmt.Errorf("media type %.100q is neither a manifest nor an index: %w (hachi takes OCI and Docker images)", d.MediaType, errdefs.ErrInvalidArgument)
	}
	if depth > 3 {
		return fmt.Errorf("index %s: nested deeper than 3: %w", d.Digest, errdefs.ErrInvalidArgument)
	}
	raw, err := s.document(ctx, d)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	index, err := layout.ParseIndex(raw)
	if err != nil {
		return fmt.Errorf("index %s: %w: %w", d.Digest, err, errdefs.ErrInvalidArgument)
	}
	for _, child := range index.Manifests {
		if s.seen++; s.seen > layout.MaxIndex {
			return fmt.Errorf("index %s: more than %d manifests: %w", d.Digest, layout.MaxIndex, errdefs.ErrInvalidArgument)
		}
		if layout.IsIndex(child.MediaType) {
			if err := s.walk(ctx, child, depth+1); err != nil {
				s.missing = err
			}
			continue
		}
		if !layout.IsManifest(child.MediaType) || child.Platform != nil && s.rank(*child.Platform) < 0 {
			continue
		}
		m, err := s.read(ctx, child)
		if err != nil {
			s.missing = err
			continue
		}
		c := candidate{desc: child, manifest: m}
		if child.Platform != nil {
			c.platform = *child.Platform
		} else if config, err := s.config(ctx, m.Config); err == nil {
			c.platform = config.Platform
		}
		if s.rank(c.platform) >= 0 {
			s.all = append(s.all, c)
		}
	}
	return nil
}

// rank orders platforms, lower first; negative means not for us.
func (s *selector) rank(p layout.Platform) int {
	host, wasm := 0, 1
	if s.wasmFirst {
		host, wasm = 9, 1
	}
	switch {
	case p.OS == "linux" && p.Architecture == runtime.GOARCH:
		return host
	case p.OS == "wasip1" && p.Architecture == "wasm":
		return wasm
	case p.OS == "wasi" && strings.HasPrefix(p.Architecture, "wasm"):
		return wasm + 1
	case p.OS == "" && p.Architecture == "":
		return wasm + 2
	case p.OS == "linux" && p.Architecture != "":
		return 10 // asked for with --platform
	}
	return -1
}

func tarLayers(m *layout.Manifest) int {
	n := 0
	for _, d := range m.Layers {
		if layout.IsTarLayer(d.MediaType) {
			n++
		}
	}
	return n
}
