package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/shim/image/imagepb"
	"github.com/hachi-run/hachi/shim/image/layout"
)

// twins refuses an image that containerd's CRI plugin may have mistaken for another: the plugin knows
// images by their config's digest, and so two images whose configs are "{}" are one to it. Running
// the wrong program would be worse than running none.
func (s *store) twins(ctx context.Context, manifest string) error {
	var all imagepb.ListImagesResponse
	err := s.ask(ctx, func(ctx context.Context) error {
		all.Reset()
		return s.unary(ctx, imagesList, &imagepb.ListImagesRequest{}, &all)
	})
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, other := range all.Images {
		d := descriptor(other)
		// The plugin's own record is named by the config's digest and follows the others.
		if d.Digest == manifest || !layout.IsManifest(d.MediaType) || layout.CheckDescriptor(d) != nil || strings.HasPrefix(other.GetName(), "sha256:") {
			continue
		}
		raw, err := s.document(ctx, d)
		if err != nil {
			continue
		}
		if m, err := layout.ParseManifest(raw); err == nil && m.Config.Digest == layout.BareConfig {
			return fmt.Errorf("has the config {}, as %s has: containerd cannot tell them apart: %w (build both with hachi build, or remove the other)",
				other.GetName(), errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}
