package pack_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image/pack"
)

func mkfifo(t *testing.T, name string) {
	t.Helper()
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "www/x"), bytes.Repeat([]byte("x"), 100_000), 0o644)
	made := build(t, pack.Options{Dirs: []string{filepath.Join(dir, "www")}})
	file := filepath.Join(dir, "app.tar")
	if err := made.Save(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	read, err := pack.OpenArchive(file, "")
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if read.Name != "localhost/app:v1" || read.Target.Digest != made.Target.Digest {
		t.Errorf("got %s %s", read.Name, read.Target.Digest)
	}
	var again bytes.Buffer
	if err := read.WriteArchive(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, again.Bytes()) {
		t.Error("reading and writing changed the archive")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("Save left files behind: %v, %v", left, err)
	}
}

// The letters of images.Layouts, which builds them by other means.
func TestJudge(t *testing.T) {
	for _, l := range images.Layouts(module) {
		i, err := pack.OpenArchive(write(t, filepath.Join(t.TempDir(), "l.tar"), l.Archive, 0o644), "")
		if err != nil {
			t.Fatal(err)
		}
		all, err := i.Manifests(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := i.Judge(all)
		i.Close()
		want := map[string]string{"M": "F", "N": "A"}[l.Name]
		if want == "" {
			want = l.Name
		}
		broken := l.Ctr != images.OK || l.CRI != images.OK
		if got.Layout != want || (got.Problem != "") != broken {
			t.Errorf("layout %s (%s): got %+v, containerd has trouble with it: %v", l.Name, l.About, got, broken)
		}
	}
}

func TestBadArchives(t *testing.T) {
	l := images.Layouts(module)[0]
	without := map[string][]byte{}
	for d, b := range l.Blobs {
		if d != images.Digest(module) {
			without[d] = b
		}
	}
	other := map[string][]byte{}
	for d, b := range l.Blobs {
		other[d] = bytes.Repeat([]byte{' '}, len(b))
	}
	for name, tc := range map[string]struct {
		archive []byte
		says    string
	}{
		"empty":         {nil, "want an uncompressed OCI archive"},
		"gzip":          {[]byte("\x1f\x8b\x08\x00aaaaaaaaaaaaaaaa"), "want an uncompressed OCI archive"},
		"truncated":     {l.Archive[:600], "want an OCI archive"},
		"no index":      {images.Tar("x", nil), "no index.json"},
		"bad index":     {images.Tar("index.json", []byte(`{"manifests":3}`)), "index.json"},
		"deep index":    {images.Tar("index.json", []byte(strings.Repeat("[", 1000))), "nested"},
		"no image":      {images.Tar("index.json", []byte(`{}`)), "holds no image"},
		"missing layer": {images.Archive(l.Ref, l.Target, without), "not in the archive"},
		"wrong content": {images.Archive(l.Ref, l.Target, other), "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := pack.OpenArchive(write(t, filepath.Join(t.TempDir(), "a.tar"), tc.archive, 0o644), "")
			if err == nil {
				defer i.Close()
				err = i.WriteArchive(t.Context(), &bytes.Buffer{})
			}
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v; want it to say %q", err, tc.says)
			}
		})
	}
}

func FuzzOpenArchive(f *testing.F) {
	for _, l := range images.Layouts(module) {
		f.Add(l.Archive)
	}
	file := filepath.Join(f.TempDir(), "a.tar")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(file, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		i, err := pack.OpenArchive(file, "")
		if err != nil {
			return
		}
		defer i.Close()
		all, err := i.Manifests(t.Context())
		if err == nil {
			i.Judge(all)
		}
		var out bytes.Buffer
		if i.WriteArchive(t.Context(), &out) == nil && out.Len() > 2*len(raw)+16<<10 {
			t.Errorf("an archive of %d bytes became one of %d", len(raw), out.Len())
		}
	})
}
