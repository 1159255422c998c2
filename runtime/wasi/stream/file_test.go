package stream

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// pipeModes runs a test with RWF_NOWAIT and as on kernels that do not have it for pipes.
func pipeModes(t *testing.T, f func(t *testing.T)) {
	t.Run("nowait", func(t *testing.T) {
		f(t)
		if noPipeNowait.Load() {
			t.Log("this kernel has no RWF_NOWAIT for pipes")
		}
	})
	t.Run("poll", func(t *testing.T) {
		old := noPipeNowait.Swap(true)
		defer noPipeNowait.Store(old)
		f(t)
	})
}

// blockingPipe has both ends in blocking mode, so that every careless call hangs the test.
func blockingPipe(t *testing.T) (r, w *File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = Open(fds[0], unix.S_IFIFO), Open(fds[1], unix.S_IFIFO)
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func TestPipeNeverBlocks(t *testing.T) {
	pipeModes(t, func(t *testing.T) {
		r, w := blockingPipe(t)
		if n, err := r.Read([][]byte{make([]byte, 10)}); n != 0 || err != unix.EAGAIN {
			t.Errorf("read of an empty pipe: %d, %v", n, err)
		}
		written := 0
		for {
			n, err := w.Write([][]byte{nil, bytes.Repeat([]byte("x"), 10_000), []byte("tail")}, 0, nil)
			written += n
			if err == unix.EAGAIN {
				break
			}
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
		}
		if written < 60<<10 {
			t.Errorf("a pipe took %d bytes", written)
		}
		if got := r.Available(); got != uint64(written) {
			t.Errorf("available %d, want %d", got, written)
		}
		for read := 0; read < written; {
			n, err := r.Read([][]byte{make([]byte, 1000), make([]byte, 3000)})
			if n == 0 || err != nil {
				t.Fatal(n, err)
			}
			read += n
		}
		flags, err := unix.FcntlInt(uintptr(r.FD()), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Error("the pipe was made non-blocking", err)
		}
	})
}

func TestPipeEnds(t *testing.T) {
	pipeModes(t, func(t *testing.T) {
		var fds [2]int
		for _, closed := range []int{0, 1} {
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			f := Open(fds[1-closed], unix.S_IFIFO)
			if err := unix.Close(fds[closed]); err != nil {
				t.Fatal(err)
			}
			if closed == 0 {
				if _, err := f.Write([][]byte{{1}}, 0, nil); err != unix.EPIPE {
					t.Errorf("write without a reader: %v", err)
				}
			} else if n, err := f.Read([][]byte{make([]byte, 1)}); n != 0 || err != nil {
				t.Errorf("read without a writer: %d, %v", n, err)
			}
			_ = f.Close()
		}
	})
}

func TestRegularFile(t *testing.T) {
	name := t.TempDir() + "/f"
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := Open(fd, unix.S_IFREG)
	defer f.Close()
	for _, flags := range []int{0, unix.RWF_APPEND, unix.RWF_DSYNC, unix.RWF_APPEND | unix.RWF_SYNC} {
		if n, err := f.Write([][]byte{[]byte("ab"), []byte("c")}, flags, nil); n != 3 || err != nil {
			t.Errorf("flags %#x: %d, %v", flags, n, err)
		}
	}
	if n, err := f.WriteAt([][]byte{[]byte("X")}, 1, unix.RWF_APPEND); n != 1 || err != nil {
		t.Error(n, err)
	}
	b := make([]byte, 20)
	if n, err := f.ReadAt([][]byte{b[:1], b[1:]}, 1); err != nil || string(b[:n]) != "Xc"+strings.Repeat("abc", 3) {
		t.Errorf("%q, %v", b[:n], err)
	}
	if got := f.Available(); got != 0 {
		t.Errorf("%d bytes available at the end", got)
	}
	if _, err := unix.Seek(fd, 2, unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
	if got := f.Available(); got != 10 {
		t.Errorf("%d bytes available, want 10", got)
	}
	many := make([][]byte, 3000)
	for i := range many {
		many[i] = []byte("m")
	}
	if n, err := f.Write(many, 0, nil); n != maxVectors || err != nil {
		t.Errorf("3000 buffers: %d, %v", n, err)
	}
}

// TestPumpGivesUp: a writer that waits for a terminal leaves when it is told to, and the descriptor is
// closed once the write has ended.
func TestPumpGivesUp(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	// A blocking pipe stands for a terminal whose write blocks after all.
	p := newPump(fds[1])
	stop := make(chan struct{})
	time.AfterFunc(30*time.Millisecond, func() { close(stop) })
	for {
		if n, err := p.write(make([]byte, 10_000), stop); err == unix.ECANCELED {
			break
		} else if n != pumpPiece || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := p.write([]byte("x"), nil); err != unix.EAGAIN {
		t.Errorf("while the old write is under way: %v", err)
	}
	p.stop()
	_ = unix.Close(fds[0]) // ends the write with EPIPE
}
