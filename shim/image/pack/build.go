package pack

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hachi-run/hachi/shim/image/layout"
	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

// Options say what Build puts into an image.
type Options struct {
	// Module is the path of a Wasm core module.
	Module string
	// Name is the image's name; Build completes it (see FullName).
	Name string
	// Entrypoint is the command; its first word's base name becomes the module's title. Default:
	// "/<module's file name>".
	Entrypoint []string
	// Cmd are the default arguments, which a pod's args replace.
	Cmd []string
	// Env has the form "NAME=value".
	Env []string
	// WorkingDir is absolute; empty means "/".
	WorkingDir string
	// Ports are announced to whoever runs the image: "8080" or "8080/tcp".
	Ports []string
	// Dirs are static files, "HOST:GUEST" or "HOST" (then GUEST is "/" and the directory's name). They
	// make a tar layer, which containerd unpacks only when the image is for a Linux host.
	Dirs []string
	// Arch is the host architecture of an image with Dirs; empty means the one this program runs on.
	Arch string
	// Created goes into the config and into the files of Dirs. The zero value means the start of 1970,
	// so that equal input gives an equal digest. See Epoch.
	Created time.Time
}

// Epoch reads SOURCE_DATE_EPOCH's value, in seconds since 1970; empty is the start of 1970.
func Epoch(value string) (time.Time, error) {
	if value == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 || seconds >= 1<<33 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", value)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Build makes an image of one module. Without Dirs it is for wasip1/wasm and runs on every host; with
// Dirs it is for linux and Arch. It is a bare manifest and never an index: containerd takes a lone
// manifest for any platform, and drops a Wasm entry of an index. Close the result.
func Build(o Options) (*Image, error) {
	if o.Created.IsZero() {
		o.Created = time.Unix(0, 0).UTC()
	}
	full, err := FullName(o.Name)
	if err != nil {
		return nil, err
	}
	i := &Image{Name: full, blobs: map[digest.Digest]*io.SectionReader{}}
	if err := i.build(o); err != nil {
		i.Close()
		return nil, fmt.Errorf("build %s: %w", o.Module, err)
	}
	return i, nil
}

func (i *Image) build(o Options) error {
	module, err := readModule(o.Module)
	if err != nil {
		return err
	}
	config, err := configOf(o)
	if err != nil {
		return err
	}
	var layers []ocispec.Descriptor
	if len(o.Dirs) > 0 {
		files, err := i.tarLayer(o.Dirs, o.Created)
		if err != nil {
			return err
		}
		layers = append(layers, files)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, files.Digest) // it is not compressed
		config.OS, config.Architecture = "linux", o.Arch
		if o.Arch == "" {
			config.Architecture = runtime.GOARCH
		}
	}
	wasm := i.put(layout.LayerWasm, module)
	wasm.Annotations = map[string]string{ocispec.AnnotationTitle: path.Base(config.Config.Entrypoint[0])}
	layers = append(layers, wasm)

	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    i.put(ocispec.MediaTypeImageConfig, raw),
		Layers:    layers,
	}
	if raw, err = json.Marshal(manifest); err != nil {
		return err
	}
	i.Target = i.put(ocispec.MediaTypeImageManifest, raw)
	return nil
}

func configOf(o Options) (*ocispec.Image, error) {
	c := &ocispec.Image{Created: &o.Created}
	c.OS, c.Architecture = "wasip1", "wasm"
	c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	c.Config.Entrypoint = o.Entrypoint
	if len(o.Entrypoint) == 0 {
		base := filepath.Base(o.Module)
		if !strings.HasSuffix(base, ".wasm") {
			base += ".wasm"
		}
		c.Config.Entrypoint = []string{"/" + base}
	}
	if base := path.Base(c.Config.Entrypoint[0]); base == "." || base == "/" {
		return nil, fmt.Errorf("entrypoint %q: no file name (want a form like /app.wasm)", c.Config.Entrypoint[0])
	}
	c.Config.Cmd = o.Cmd
	for _, e := range o.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return nil, fmt.Errorf("environment %q: no name and value (want NAME=value)", e)
		}
	}
	c.Config.Env = o.Env
	if o.WorkingDir != "" && !path.IsAbs(o.WorkingDir) {
		return nil, fmt.Errorf("working directory %q: not absolute", o.WorkingDir)
	}
	c.Config.WorkingDir = o.WorkingDir
	for _, p := range o.Ports {
		ports, err := layout.Ports(map[string]struct{}{p: {}})
		if err != nil {
			return nil, err
		}
		for _, port := range ports {
			if c.Config.ExposedPorts == nil {
				c.Config.ExposedPorts = map[string]struct{}{}
			}
			c.Config.ExposedPorts[port.String()] = struct{}{}
		}
	}
	return c, nil
}

// readModule reads a module whole: what is checked is then what is packed.
func readModule(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a file (give the path of a .wasm file)")
	}
	if info.Size() > layout.MaxModule {
		return nil, fmt.Errorf("%d bytes exceed %d", info.Size(), int64(layout.MaxModule))
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	switch form := wasmbin.Sniff(raw); form {
	case wasmbin.Module:
	case wasmbin.Component:
		return nil, fmt.Errorf("a WebAssembly component; this build runs core modules (build for wasip1 instead of wasip2)")
	case wasmbin.ELF:
		return nil, fmt.Errorf("an ELF program, not WebAssembly (build for wasip1: GOOS=wasip1 GOARCH=wasm, --target wasm32-wasip1 and the like)")
	case wasmbin.Future:
		return nil, fmt.Errorf("truncated, or of an unknown WebAssembly version (build it again)")
	default:
		return nil, fmt.Errorf("%s, not WebAssembly (give the compiled .wasm; text is compiled with wat2wasm)", form)
	}
	if _, err := wasmbin.Read(reader(raw), int64(len(raw))); err != nil {
		return nil, fmt.Errorf("%w (build it again)", err)
	}
	return raw, nil
}
