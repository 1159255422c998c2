package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/shim/image/layout"
	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

// program is the file that a process's Args[0] names in the root file system.
type program struct {
	*os.File
	form wasmbin.Form
	info unix.Stat_t
	// host is the file's place on the host, for opening it again.
	root, rel string
	writable  bool
}

// program finds what runc would execute: Args[0] as it is when it has a slash, relative to Cwd, else
// searched in PATH. It returns nil and no error when there is nothing that can be read; what is wrong
// then is for runc to say. Close the result.
func (r *rootfs) program(p *specs.Process) (*program, error) {
	if r == nil || p == nil || len(p.Args) == 0 || p.Args[0] == "" {
		return nil, nil
	}
	arg := p.Args[0]
	if strings.Contains(arg, "/") {
		return r.file(absolute(p.Cwd, arg))
	}
	for _, dir := range strings.Split(lastEnv(p.Env, "PATH"), ":") {
		f, err := r.file(absolute(p.Cwd, path.Join(dir, arg)))
		if err != nil {
			return nil, err
		}
		// A module needs no execute bit: COPY and ADD seldom set it.
		if f != nil && (f.form.IsWasm() || f.info.Mode&0o111 != 0) {
			return f, nil
		}
		if f != nil {
			f.Close()
		}
	}
	return nil, nil
}

// absolute does not clean the name: ".." behind a link is not lexical.
func absolute(cwd, name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return cwd + "/" + name
}

// lastEnv is the value that counts where a name is set twice.
func lastEnv(env []string, name string) string {
	for k := len(env) - 1; k >= 0; k-- {
		if value, ok := strings.CutPrefix(env[k], name+"="); ok {
			return value
		}
	}
	return ""
}

func (r *rootfs) file(name string) (*program, error) {
	at, err := r.lookup(name)
	if notThere(err) || err == nil && at.mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	f := &program{root: r.layers[at.layer], rel: at.path, writable: at.layer < r.writable}
	if f.File, err = openRegular(f.root, f.rel); err != nil {
		if notThere(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	var head [wasmbin.HeadSize]byte
	n, err := f.ReadAt(head[:], 0)
	if err == nil || errors.Is(err, io.EOF) {
		err = unix.Fstat(int(f.Fd()), &f.info)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	f.form = wasmbin.Sniff(head[:n])
	return f, nil
}

func notThere(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.EXDEV)
}

// openRegular opens a file for reading only after it knows that it is a regular one: opening a device
// or a fifo that an image planted would have effects.
func openRegular(root, rel string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	at, err := openBeneath(dir, rel, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var stat unix.Stat_t
	if err := unix.Fstat(at, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.ENOENT
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Join(root, rel)), nil
}

// module hashes the file. A later Open gives the same bytes or an error: files of image layers are
// immutable, so their identity is compared; files that the container may write are copied and hashed
// each time, because a guest that swaps bytes under a digest could poison the artefact store.
func (f *program) module() (*Module, error) {
	if f.info.Size > layout.MaxModule {
		return nil, fmt.Errorf("module %s: %d bytes exceed %d: %w", f.Name(), f.info.Size, int64(layout.MaxModule), errdefs.ErrInvalidArgument)
	}
	digest, err := layout.Sum(f, f.info.Size)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", f.Name(), err)
	}
	m := &Module{Name: path.Base(f.rel), Digest: digest, Size: f.info.Size}
	root, rel, info, writable := f.root, f.rel, f.info, f.writable
	m.open = func() (*os.File, error) {
		again, err := openRegular(root, rel)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Join(root, rel), err)
		}
		if writable {
			defer again.Close()
			return copied(again, m.Size, m.Digest)
		}
		var stat unix.Stat_t
		if err := unix.Fstat(int(again.Fd()), &stat); err != nil || !same(stat, info) {
			again.Close()
			return nil, fmt.Errorf("%s: changed since the container was created: %w", path.Join(root, rel), errdefs.ErrFailedPrecondition)
		}
		return again, nil
	}
	return m, nil
}

func same(a, b unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

func copied(from *os.File, size int64, digest string) (*os.File, error) {
	return sealed("hachi-module", func(to *os.File) error {
		n, err := io.Copy(to, io.NewSectionReader(from, 0, size+1))
		if err != nil {
			return fmt.Errorf("copy %s: %w", from.Name(), err)
		}
		if n != size || layout.Verify(to, size, digest) != nil {
			return fmt.Errorf("%s: changed since the container was created: %w", from.Name(), errdefs.ErrFailedPrecondition)
		}
		return nil
	})
}
