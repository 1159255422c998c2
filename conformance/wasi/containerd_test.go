package wasi_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
)

// containers is what programs find in every container, and fail by.
var containers = map[string]string{
	"environ_get-multiple-variables.wasm":       "counts its variables, and containerd gives every container a PATH",
	"environ_sizes_get-multiple-variables.wasm": "counts its variables, and containerd gives every container a PATH",
	"environ_sizes_get-no-variables.wasm":       "counts its variables, and containerd gives every container a PATH",
	"sock_shutdown-invalid_fd.wasm":             "takes descriptor 3 for one that is not open, and a container has its root there",
}

// TestSuiteThroughContainerd runs every program as an image, with ctr run: its directory is the image's.
func TestSuiteThroughContainerd(t *testing.T) {
	all := files(t)
	bin := testenv.Bin(t)
	d := daemon.Test(t, "2.4.2", daemon.Options{Path: []string{bin}})
	images := 0
	forEach(t, all, containers, func(t *testing.T, p program) (outcome, error) {
		images++
		ref, archive := fmt.Sprintf("localhost/suite/%d:v1", images), filepath.Join(t.TempDir(), "image.tar")
		build := []string{"build", p.file, "-t", ref, "-o", archive, "--entrypoint", filepath.Base(p.file)}
		for guest, host := range p.dirs {
			build = append(build, "--dir", host+":"+guest)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		if out, err := exec.CommandContext(ctx, filepath.Join(bin, "hachi"), build...).CombinedOutput(); err != nil {
			return outcome{stderr: string(out)}, err
		}
		if out, err := d.Ctr(ctx, "-n", d.Mark(), "image", "import", "--all-platforms", archive); err != nil {
			return outcome{stderr: out}, err
		}
		args := []string{"-n", d.Mark(), "run", "--rm", "--runtime", "io.containerd.hachi.v1"}
		for _, e := range p.environ() {
			args = append(args, "--env", e)
		}
		args = append(args, ref, fmt.Sprintf("suite-%d", images))
		if len(p.Args) > 0 { // ctr's arguments replace the image's, with the program's name
			args = append(append(args, filepath.Base(p.file)), p.Args...)
		}
		return ended(d.Command(ctx, args...))
	})
}
