package image

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// rootfs is a container's root file system as containerd describes it: directories to look through,
// not a mount.
type rootfs struct {
	// layers are host directories, the top first.
	layers []string
	// writable is the number of layers at the top that the container itself may write.
	writable int
	// overlay says that whiteouts and opaque directories count.
	overlay bool
	// xattr is the prefix of overlayfs's own attributes.
	xattr string
	// committed is how many image layers lie below, or -1 when the mounts do not tell.
	committed int
}

const snapshotterDir = "io.containerd.snapshotter.v1."

// newRootfs reads the task's mounts; where there are none, the spec's root. It returns nil for forms
// that cannot be looked into without mounting them (block devices, EROFS images).
func newRootfs(mounts []specs.Mount, spec *specs.Spec) *rootfs {
	if len(mounts) == 0 {
		if spec.Root == nil || !filepath.IsAbs(spec.Root.Path) {
			return nil
		}
		r := &rootfs{layers: []string{spec.Root.Path}, committed: -1}
		if !spec.Root.Readonly {
			r.writable = 1
		}
		return r
	}
	if len(mounts) != 1 || strings.Trim(mounts[0].Destination, "/") != "" {
		return nil
	}
	switch m := mounts[0]; m.Type {
	case "bind", "rbind":
		return fromBind(m)
	case "overlay":
		return fromOverlay(m)
	}
	return nil
}

func fromBind(m specs.Mount) *rootfs {
	if !filepath.IsAbs(m.Source) {
		return nil
	}
	r := &rootfs{layers: []string{m.Source}, committed: -1}
	if !slices.Contains(m.Options, "ro") {
		r.writable = 1
		if strings.Contains(m.Source, "/"+snapshotterDir+"overlayfs/") {
			// Only a container without any layer below gets its own snapshot bound directly.
			r.committed = 0
		}
	}
	return r
}

func fromOverlay(m specs.Mount) *rootfs {
	r := &rootfs{overlay: true, xattr: "trusted.overlay.", committed: -1}
	var upper string
	for _, option := range m.Options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "upperdir":
			upper = unescape(value)
		case "lowerdir":
			r.layers = append(r.layers, splitLower(value)...)
		case "lowerdir+":
			r.layers = append(r.layers, value)
		case "datadir+":
			return nil
		case "userxattr":
			r.xattr = "user.overlay."
		}
	}
	lower := len(r.layers)
	if upper != "" {
		r.layers = append([]string{upper}, r.layers...)
		r.writable = 1
		if strings.Contains(upper, "/"+snapshotterDir+"overlayfs/") {
			r.committed = lower
		}
	}
	if lower == 0 || slices.ContainsFunc(r.layers, func(dir string) bool { return !filepath.IsAbs(dir) }) {
		return nil
	}
	return r
}

// splitLower splits at colons that no backslash protects, as overlayfs does. An empty part ("::") is
// overlayfs's mark of data-only layers, which are not searched; it stays and makes the mount
// unreadable to us.
func splitLower(value string) []string {
	var out []string
	start := 0
	for k := 0; k < len(value); k++ {
		switch value[k] {
		case '\\':
			k++
		case ':':
			out = append(out, unescape(value[start:k]))
			start = k + 1
		}
	}
	return append(out, unescape(value[start:]))
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for k := 0; k < len(s); k++ {
		if s[k] == '\\' && k+1 < len(s) {
			k++
		}
		b.WriteByte(s[k])
	}
	return b.String()
}

// contentDir is where containerd keeps the blobs of the images whose snapshots these are, or "".
func (r *rootfs) contentDir() string {
	if r == nil {
		return ""
	}
	for _, dir := range r.layers {
		if k := strings.Index(dir, "/"+snapshotterDir); k > 0 {
			return path.Join(dir[:k], "io.containerd.content.v1.content")
		}
	}
	return ""
}
