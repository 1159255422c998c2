package wasi_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
)

// containers are what programs find in every container, and fail by.
var containers = map[string]string{
	"environ_get-multiple-variables.wasm":       "counts its variables, and containerd gives every container a PATH",
	"environ_sizes_get-multiple-variables.wasm": "counts its variables, and containerd gives every container a PATH",
	"environ_sizes_get-no-variables.wasm":       "counts its variables, and containerd gives every container a PATH",
	"sock_shutdown-invalid_fd.wasm":             "takes descriptor 3 for one that is not open, and a container has its root there",
}

// TestSuiteThroughContainerd runs every program as an image, with ctr run: its directory is the image's.
func TestSuiteThroughContainerd(t *testing.T) {
	var d *daemon.Daemon
	provide := func(t *testing.T) { d = daemon.Test(t, "2.4.2", daemon.Options{Path: []string{testenv.Bin(t)}}) }
	images := 0
	forEach(t, provide, func(t *testing.T, p program) (outcome, error) {
		known := containers[filepath.Base(p.file)]
		images++
		ref, archive := fmt.Sprintf("localhost/suite/%d:v1", images), filepath.Join(t.TempDir(), "image.tar")
		build := []string{"build", p.file, "-t", ref, "-o", archive, "--entrypoint", filepath.Base(p.file)}
		for guest, host := range p.dirs {
			build = append(build, "--dir", host+":"+guest)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		if out, err := exec.CommandContext(ctx, filepath.Join(testenv.Bin(t), "hachi"), build...).CombinedOutput(); err != nil {
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
		o, err := ended(d.Command(ctx, args...))
		if known == "" {
			return o, err
		}
		if err != nil || o.code == p.ExitCode {
			t.Errorf("exit code %d, %v, though it %s", o.code, err, known)
		}
		t.Skipf("it %s", known)
		return o, err
	})
}

// ended runs a command to its end, whose code is the program's.
func ended(cmd *exec.Cmd) (outcome, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.Exited() {
		err = nil // the code says how it went
	}
	return outcome{uint32(cmd.ProcessState.ExitCode()), stdout.String(), stderr.String()}, err
}
