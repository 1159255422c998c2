package toolbox

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive is tar as far as `kubectl cp` uses it: c and x, always through stdin and stdout. Owners are not kept: a
// file belongs to the container's user.
func archive(c *call) int {
	mode, dir, names, err := archiveArgs(c.args)
	if err != nil {
		return c.fail("tar", err)
	}
	at := c.path(dir)
	if mode == 'x' {
		err = extract(c.stdin, at)
	} else {
		err = pack(c.stdout, at, names)
	}
	if err != nil {
		return c.fail("tar", err)
	}
	return 0
}

// archiveArgs understands the old form of the first word, without a dash, too.
func archiveArgs(args []string) (mode byte, dir string, names []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if strings.HasPrefix(arg, "--no-same-") {
			continue // that is how it is here
		}
		if i > 0 && !strings.HasPrefix(arg, "-") {
			names = append(names, arg)
			continue
		}
		for _, letter := range strings.TrimPrefix(arg, "-") {
			switch letter {
			case 'c', 'x':
				mode = byte(letter)
			case 'm', 'p', 'o':
			case 'f', 'C':
				if i++; i == len(args) {
					return 0, "", nil, fmt.Errorf("-%c needs an argument", letter)
				}
				if letter == 'C' {
					dir = args[i]
				} else if args[i] != "-" {
					return 0, "", nil, fmt.Errorf("-f %s: only - is there", args[i])
				}
			default:
				return 0, "", nil, fmt.Errorf("-%c: not there (have c, x, f -, C, m, p)", letter)
			}
		}
	}
	if mode == 0 || mode == 'c' && len(names) == 0 {
		return 0, "", nil, errors.New("nothing to do (tar cf - NAME..., tar xf - [-C DIRECTORY])")
	}
	return mode, dir, names, nil
}

func pack(out io.Writer, dir string, names []string) error {
	w := tar.NewWriter(out)
	for _, name := range names {
		path := name
		if !filepath.IsAbs(name) {
			path = filepath.Join(dir, name)
		}
		err := filepath.WalkDir(path, func(file string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rest, err := filepath.Rel(path, file)
			if err != nil {
				return err
			}
			return packFile(w, file, strings.TrimLeft(filepath.Join(name, rest), "/"))
		})
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func packFile(w *tar.Writer, file, name string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case info.Mode().IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(file); err != nil {
			return err
		}
	default:
		return nil // sockets, pipes and devices hold nothing to copy
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grows meanwhile is cut, one that shrinks is an error.
	_, err = io.CopyN(w, f, h.Size)
	return err
}

// extract may write wherever the container's user may: the jail is the limit, not the archive's names.
func extract(in io.Reader, dir string) error {
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := fs.FileMode(h.Mode).Perm()
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, mode)
		case tar.TypeReg:
			err = extractFile(r, path, mode)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		default:
			err = fmt.Errorf("%s: neither file, directory nor symbolic link", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func extractFile(r io.Reader, path string, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// test has the questions about files, one at a time.
func test(c *call) int {
	if len(c.args) != 2 {
		return c.fail("test", errors.New("want one of -e, -f, -d, -s, and a file")) + 1 // 2: no answer
	}
	info, err := os.Stat(c.path(c.args[1]))
	yes := err == nil
	switch c.args[0] {
	case "-e":
	case "-f":
		yes = yes && info.Mode().IsRegular()
	case "-d":
		yes = yes && info.IsDir()
	case "-s":
		yes = yes && info.Size() > 0
	default:
		return c.fail("test", fmt.Errorf("%s: not there (have -e, -f, -d, -s)", c.args[0])) + 1
	}
	if yes {
		return 0
	}
	return 1
}
