package stdio

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTerminalRaw: a program that turns the line discipline off gets every byte, and the client too.
func TestTerminalRaw(t *testing.T) {
	spotless(t)
	in, out := newFifo(t, "in"), newFifo(t, "out")
	stdout := client(t, out, os.O_RDONLY)
	s := open(t, Config{Stdin: in, Stdout: out, Terminal: true})
	raw(t, s.Stdin)
	keys := client(t, in, os.O_WRONLY)
	cmd := process(t, s, "head -c 256")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if _, err := keys.Write(all); err != nil {
		t.Fatal(err)
	}
	wait(t, cmd, s)
	got := readAll(t, stdout)
	if !bytes.Equal(got, all) {
		t.Errorf("got %q", got)
	}
}

func raw(t *testing.T, f *os.File) {
	t.Helper()
	modes, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	modes.Iflag, modes.Oflag, modes.Lflag = 0, 0, 0
	modes.Cc[unix.VMIN], modes.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, modes); err != nil {
		t.Fatal(err)
	}
}

func TestTerminalResize(t *testing.T) {
	spotless(t)
	out := newFifo(t, "out")
	stdout := client(t, out, os.O_RDONLY)
	s := open(t, Config{Stdout: out, Terminal: true})
	if err := s.Resize(101, 37); err != nil {
		t.Fatal(err)
	}
	wait(t, process(t, s, "stty size"), s)
	if got := string(readAll(t, stdout)); got != "37 101\r\n" {
		t.Errorf("got %q", got)
	}
	s.Close()
	if err := s.Resize(1, 1); err == nil {
		t.Error("resize after the end: no error")
	}
	s = open(t, Config{})
	s.Started()
	if err := s.Resize(1, 1); err == nil || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("got %v", err)
	}
}

// TestTerminalDrains: what the program wrote last reaches a slow reader after the program's end.
func TestTerminalDrains(t *testing.T) {
	spotless(t)
	out := newFifo(t, "out")
	stdout := client(t, out, os.O_RDONLY)
	s := open(t, Config{Stdout: out, Terminal: true})
	raw(t, s.Stdout)
	cmd := process(t, s, "head -c 60000 /dev/zero; echo end")
	wait(t, cmd, s)
	time.Sleep(100 * time.Millisecond)
	var got bytes.Buffer
	for buf := make([]byte, 3000); ; time.Sleep(2 * time.Millisecond) {
		n, err := stdout.Read(buf)
		got.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got.Len() != 60004 || !bytes.HasSuffix(got.Bytes(), []byte("end\n")) {
		t.Errorf("%d bytes of 60004", got.Len())
	}
}

// TestTerminalNobodyReads: Close drops what nobody wants, after a while, and nothing is left.
func TestTerminalNobodyReads(t *testing.T) {
	spotless(t)
	in, out := newFifo(t, "in"), newFifo(t, "out")
	_ = client(t, out, os.O_RDONLY)
	s := open(t, Config{Stdin: in, Stdout: out, Terminal: true})
	keys := client(t, in, os.O_WRONLY)
	cmd := process(t, s, "head -c 1000000 /dev/zero")
	// Nobody reads these either.
	if _, err := keys.Write(bytes.Repeat([]byte("x\n"), 20000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > drainWait+time.Second {
		t.Errorf("close took %v", took)
	}
}

// TestTerminalToNowhere: a terminal without a client, and one whose process was never started.
func TestTerminalToNowhere(t *testing.T) {
	spotless(t)
	s := open(t, Config{Terminal: true})
	wait(t, process(t, s, "head -c 100000 /dev/zero"), s)
	s.Close()
	s = open(t, Config{Terminal: true})
	s.Started()
	s.Close()
	s.Close()
}

func TestTerminalToLogger(t *testing.T) {
	uri, out := loggerURI(t, "binary", "")
	spotless(t)
	s := open(t, Config{Stdout: uri, Terminal: true})
	wait(t, process(t, s, "echo hello"), s)
	s.Close()
	if got, err := os.ReadFile(out); err != nil || !strings.Contains(string(got), `7 "hello\r\n" 0 ""`) {
		t.Errorf("%q, %v", got, err)
	}
}
