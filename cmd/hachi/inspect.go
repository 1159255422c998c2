package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/hachi-run/hachi/shim/image/layout"
	"github.com/hachi-run/hachi/shim/image/pack"
	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

func newInspectCommand() *cobra.Command {
	var asJSON, plain bool
	c := &cobra.Command{
		Use:   "inspect MODULE|ARCHIVE|NAME [--json]",
		Short: "Show what a module or an image holds and needs",
		Long: `Show what a Wasm module imports and exports; for an image, also its config, its layers and what containerd will make
of it. The argument is a .wasm file, an OCI archive, or the name of an image in a registry.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			r, err := inspect(ctx, args[0], pack.Registry{PlainHTTP: plain})
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				return e.Encode(r)
			}
			return r.write(c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().BoolVar(&plain, "plain-http", false, "allow a registry without TLS that is not on this machine")
	return c
}

// report is what inspect found.
type report struct {
	Image   *imageReport   `json:"image,omitempty"`
	Modules []moduleReport `json:"modules,omitempty"`
}

type imageReport struct {
	Name      string          `json:"name,omitempty"`
	Digest    string          `json:"digest"`
	Judgement pack.Judgement  `json:"containerd"`
	Manifests []manifestEntry `json:"manifests"`
}

type manifestEntry struct {
	Digest   string              `json:"digest"`
	Platform string              `json:"platform"`
	Config   ocispec.ImageConfig `json:"config"`
	Layers   []layerEntry        `json:"layers"`
}

type layerEntry struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	Title     string `json:"title,omitempty"`
}

type moduleReport struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// Problem says why the file cannot run; the summary is then missing or incomplete.
	Problem string           `json:"problem,omitempty"`
	Module  *wasmbin.Summary `json:"module,omitempty"`
}

// inspect tells files by their content and everything else is a name.
func inspect(ctx context.Context, what string, registry pack.Registry) (*report, error) {
	f, err := os.Open(what)
	if errors.Is(err, os.ErrNotExist) && !looksLikeFile(what) {
		i, err := registry.Open(ctx, what)
		if err != nil {
			return nil, err
		}
		defer i.Close()
		return inspectImage(ctx, i)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("inspect %s: not a file", what)
	}
	head := make([]byte, wasmbin.HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if form := wasmbin.Sniff(head[:n]); form.IsWasm() || strings.HasSuffix(what, ".wasm") {
		digest, err := layout.Sum(f, info.Size())
		if err != nil {
			return nil, err
		}
		return &report{Modules: []moduleReport{examine(filepath.Base(what), digest, f, info.Size())}}, nil
	}
	i, err := pack.OpenArchive(what, "")
	if err != nil {
		return nil, err
	}
	defer i.Close()
	return inspectImage(ctx, i)
}

func looksLikeFile(what string) bool {
	return strings.HasSuffix(what, ".wasm") || strings.HasSuffix(what, ".tar") || strings.HasPrefix(what, "/") || strings.HasPrefix(what, ".")
}

func inspectImage(ctx context.Context, i *pack.Image) (*report, error) {
	all, err := i.Manifests(ctx)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", i.Name, err)
	}
	r := &report{Image: &imageReport{Name: i.Name, Digest: i.Target.Digest.String(), Judgement: i.Judge(all)}}
	seen := map[string]bool{}
	for _, m := range all {
		entry := manifestEntry{Digest: m.Desc.Digest.String(), Platform: m.Platform.OS + "/" + m.Platform.Architecture, Config: m.Config.Config}
		for _, d := range m.Manifest.Layers {
			title := d.Annotations[ocispec.AnnotationTitle]
			entry.Layers = append(entry.Layers, layerEntry{d.MediaType, d.Digest.String(), d.Size, title})
			if !layout.IsWasmLayer(d.MediaType) || seen[d.Digest.String()] {
				continue
			}
			seen[d.Digest.String()] = true
			if title == "" && len(m.Config.Config.Entrypoint) > 0 {
				title = path.Base(m.Config.Config.Entrypoint[0])
			}
			module, err := examineLayer(ctx, i, d, title)
			if err != nil {
				return nil, fmt.Errorf("inspect %s: %w", i.Name, err)
			}
			r.Modules = append(r.Modules, module)
		}
		r.Image.Manifests = append(r.Image.Manifests, entry)
	}
	return r, nil
}

func examineLayer(ctx context.Context, i *pack.Image, d ocispec.Descriptor, name string) (moduleReport, error) {
	if d.Size > layout.MaxModule {
		return moduleReport{Name: name, Digest: d.Digest.String(), Problem: fmt.Sprintf("%d bytes exceed %d", d.Size, int64(layout.MaxModule))}, nil
	}
	content, err := i.Blob(ctx, d)
	if err != nil {
		return moduleReport{}, err
	}
	return examine(name, d.Digest.String(), content, d.Size), nil
}

// provided are the import modules that hachi's engine has.
var provided = map[string]bool{"wasi_snapshot_preview1": true, "wasi_unstable": true}

func examine(name, digest string, r io.ReaderAt, size int64) moduleReport {
	m := moduleReport{Name: name, Digest: digest}
	s, err := wasmbin.Read(r, size)
	if err != nil {
		m.Problem = err.Error()
		return m
	}
	m.Module = s
	var missing []string
	for _, host := range s.Hosts() {
		if !provided[host] {
			missing = append(missing, host)
		}
	}
	switch {
	case len(missing) > 0:
		m.Problem = "imports " + strings.Join(missing, ", ") + ", which hachi does not provide (it serves wasi_snapshot_preview1)"
	case !s.Exported("_start"):
		m.Problem = "exports no function _start, so there is nothing to run (build a command, not a library)"
	}
	return m
}
