package pack

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tarLayer packs directories into one uncompressed layer: compressed bytes depend on the compressor's
// version, and then equal input would not give an equal digest. Owners are root and modes 0755 or
// 0644, so that neither the builder's account nor the umask shows.
func (i *Image) tarLayer(dirs []string, at time.Time) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	out, err := i.scratch()
	if err != nil {
		return d, err
	}
	sum := sha256.New()
	w := &layerWriter{Writer: tar.NewWriter(io.MultiWriter(out, sum)), at: at, made: map[string]bool{"": true}}
	for _, dir := range dirs {
		host, guest := splitDir(dir)
		if err := w.addTree(host, guest); err != nil {
			return d, fmt.Errorf("directory %q: %w", dir, err)
		}
	}
	if err := w.Close(); err != nil {
		return d, fmt.Errorf("write layer: %w", err)
	}
	size, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return d, err
	}
	d = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, sum), Size: size}
	i.blobs[d.Digest] = io.NewSectionReader(out, 0, size)
	return d, nil
}

// scratch is a file without a name; it goes with Close.
func (i *Image) scratch() (*os.File, error) {
	f, err := os.CreateTemp("", "hachi-layer-")
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	i.files = append(i.files, f)
	return f, os.Remove(f.Name())
}

func splitDir(dir string) (host, guest string) {
	host, guest, ok := strings.Cut(dir, ":")
	if !ok {
		guest = filepath.Base(host)
		if abs, err := filepath.Abs(host); err == nil {
			guest = filepath.Base(abs)
		}
	}
	// A leading slash makes Clean drop every ".." that would leave the root.
	return host, strings.TrimPrefix(path.Clean("/"+guest), "/")
}

// layerWriter writes entries in a fixed order and parents before children.
type layerWriter struct {
	*tar.Writer
	at   time.Time
	made map[string]bool
}

func (w *layerWriter) addTree(host, guest string) error {
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("not a directory (give the directory that the file is in)")
	}
	if err := w.parents(guest); err != nil {
		return err
	}
	// An os.Root keeps a tree that changes under us from leading elsewhere.
	root, err := os.OpenRoot(host)
	if err != nil {
		return err
	}
	defer root.Close()
	var names []string
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil && name != "." {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	sort.Strings(names)
	for _, name := range names {
		if err := w.add(root, name, path.Join(guest, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// parents makes the directories of a path, itself included.
func (w *layerWriter) parents(dir string) error {
	if dir == "." || w.made[dir] {
		return nil
	}
	if err := w.parents(path.Dir(dir)); err != nil {
		return err
	}
	w.made[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: w.at})
}

func (w *layerWriter) add(root *os.Root, name, guest string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return w.parents(guest)
	}
	if w.made[guest] {
		return fmt.Errorf("/%s is packed twice (leave one out)", guest)
	}
	w.made[guest] = true
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := root.Readlink(name)
		if err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: guest, Linkname: target, Mode: 0o777, ModTime: w.at})
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: only files, links and directories can be packed", info.Mode().Type())
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: guest, Size: info.Size(), Mode: mode, ModTime: w.at}); err != nil {
		return err
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// tar.Writer refuses a byte too many and, at the next header, a byte too few.
	n, err := io.Copy(w, f)
	if err == nil && n != info.Size() {
		err = errors.New("shrank while it was read")
	}
	return err
}
