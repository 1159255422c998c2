package pin_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// Several processes come to a machine without a bpffs; one mounts it.
func TestMakeMountsOnce(t *testing.T) {
	testenv.NeedRoot(t)
	base := filepath.Join(testenv.ShortDir(t), "bpf")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(base, "hachi")
	if _, err := pin.Open(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open before it was made: %v", err)
	}
	var all errgroup.Group
	for range 8 {
		all.Go(func() error { _, err := pin.Make(root); return err })
	}
	err := all.Wait()
	t.Cleanup(func() {
		if err := unix.Unmount(base, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(mounts), " "+base+" bpf "); n != 1 {
		t.Errorf("mounted %d times", n)
	}
	for _, dir := range []string{root, filepath.Join(root, pin.Version, "pod")} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want it for root alone", dir, st.Mode(), err)
		}
	}
	if _, err := pin.Open(root); err != nil {
		t.Error(err)
	}
	if _, err := pin.Make("/proc/nowhere/bpf/hachi"); err == nil {
		t.Error("made pins in a place that does not exist")
	}
}

func TestLockWaits(t *testing.T) {
	l, err := pin.Make(filepath.Join(bpfenv.BPFFS(t), "hachi"))
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := l.Lock(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lock of what is locked: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		unlock, err := l.Lock(t.Context())
		if err == nil {
			unlock()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestClaim(t *testing.T) {
	l, err := pin.Make(filepath.Join(bpfenv.BPFFS(t), "hachi"))
	if err != nil {
		t.Fatal(err)
	}
	release, err := l.Claim("work")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Claim("work"); !errors.Is(err, pin.ErrClaimed) {
		t.Errorf("second claim: %v", err)
	}
	other, err := l.Claim("other-work")
	if err != nil {
		t.Error(err)
	} else {
		other()
	}
	release()
	if release, err = l.Claim("work"); err != nil {
		t.Errorf("claim of what was released: %v", err)
	} else {
		release()
	}
}
