package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/guest"
	"github.com/hachi-run/hachi/runtime/wire"
)

// parentEnv makes this test binary a parent that starts an engine and waits. It holds the engine's path, the
// module's and the guest's word.
const parentEnv = "HACHI_ENGINE_PARENT"

func parent() int {
	args := strings.Fields(os.Getenv(parentEnv))
	module, err := os.Open(args[1])
	if err != nil {
		return 1
	}
	p, err := Start(Options{Binary: args[0], Stdout: os.Stdout})
	if err != nil {
		return 1
	}
	g := Guest{Name: "kit", Config: wire.Config{Args: []string{"kit", args[2]}}, Files: wire.Files{Module: module}}
	if p.Load(context.Background(), g) != nil {
		return 1
	}
	fmt.Println(p.Pid())
	if p.Run() != nil {
		return 1
	}
	<-p.Done()
	return 1
}

// TestParentDies: an engine does not outlive its shim, whatever its guest does.
func TestParentDies(t *testing.T) {
	module := guest.Built(t, guest.WASI, "runtime/engine/testdata/kit")
	for _, word := range []string{"ready", "spin"} {
		t.Run(word, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), parentEnv+"="+strings.Join([]string{engineBinary(t), module, word}, " "))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Wait() }() // it was killed
			defer cmd.Process.Kill()
			lines := bufio.NewScanner(out)
			lines.Scan()
			pid, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			if lines.Scan(); lines.Text() != "ready" {
				t.Fatalf("guest says %q", lines.Text())
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			died := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(died, int((5 * time.Second).Milliseconds()))
			for errors.Is(err, unix.EINTR) {
				n, err = unix.Poll(died, int((5 * time.Second).Milliseconds()))
			}
			if n != 1 {
				t.Errorf("engine %d lives without its parent (%v)", pid, err)
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		})
	}
}
