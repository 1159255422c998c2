// Package linux packs programs of this machine into Linux container images.
package linux

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is a file of the image. Every image has /tmp, /proc, /sys, /dev and /etc with root and nobody in it.
type File struct {
	// Path in the image, without the first slash.
	Path string
	// From is a file of this machine to copy, executable; else Data or Link is used.
	From string
	Data string
	Link string
	// Mode is what chmod(2) takes; 0 means 0755 with From and 0644 with Data.
	Mode int64
}

// The users and groups that test suites expect in any image.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
	group  = "root:x:0:\ndaemon:x:1:\nsys:x:3:\nadm:x:4:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"
)

// Image builds an image in memory.
func Image(files []File, config v1.Config) (v1.Image, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "sys/", "tmp/", "usr/", "usr/bin/", "var/", "root/"} {
		mode := int64(0o755)
		if dir == "tmp/" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: mode}); err != nil {
			return nil, err
		}
	}
	files = append([]File{
		{Path: "etc/passwd", Data: passwd},
		{Path: "etc/group", Data: group},
	}, files...)
	for _, f := range files {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf.OS, cf.Architecture, cf.Config = "linux", runtime.GOARCH, config
	if len(cf.Config.Env) == 0 {
		cf.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	return mutate.ConfigFile(img, cf)
}

func (f File) write(w *tar.Writer) error {
	if f.Link != "" {
		return w.WriteHeader(&tar.Header{Name: f.Path, Typeflag: tar.TypeSymlink, Linkname: f.Link, Mode: 0o777})
	}
	data, mode := []byte(f.Data), int64(0o644)
	if f.From != "" {
		var err error
		if data, err = os.ReadFile(f.From); err != nil {
			return err
		}
		mode = 0o755
	}
	if f.Mode != 0 {
		mode = f.Mode
	}
	if err := w.WriteHeader(&tar.Header{Name: f.Path, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// Archive writes an image into a file that `ctr image import` takes, under a full reference such as
// "example.test/probe:linux".
func Archive(img v1.Image, ref, file string) error {
	tag, err := name.NewTag(ref, name.WithDefaultRegistry(""))
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, img)
}
