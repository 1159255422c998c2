package stdio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFastProcess: what a process wrote is there when it has ended before its reader looks.
func TestFastProcess(t *testing.T) {
	spotless(t)
	out, errs := newFifo(t, "out"), newFifo(t, "err")
	stdout, stderr := client(t, out, os.O_RDONLY), client(t, errs, os.O_RDONLY)
	s := open(t, Config{Stdout: out, Stderr: errs})
	wait(t, process(t, s, "echo to stdout; echo to stderr >&2"), s)
	s.Close()
	if got := string(readAll(t, stdout)); got != "to stdout\n" {
		t.Errorf("stdout %q", got)
	}
	if got := string(readAll(t, stderr)); got != "to stderr\n" {
		t.Errorf("stderr %q", got)
	}
}

func TestSlowReader(t *testing.T) {
	spotless(t)
	const size = 4 << 20
	out := newFifo(t, "out")
	stdout := client(t, out, os.O_RDONLY)
	s := open(t, Config{Stdout: out})
	cmd := process(t, s, "head -c 4194304 /dev/zero")
	total, buf := 0, make([]byte, 100<<10)
	for {
		n, err := stdout.Read(buf)
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	wait(t, cmd, s)
	if total != size {
		t.Errorf("%d bytes of %d", total, size)
	}
}

func TestLateReader(t *testing.T) {
	spotless(t)
	out := newFifo(t, "out")
	late := make(chan *os.File)
	go func() {
		time.Sleep(200 * time.Millisecond)
		f, err := os.OpenFile(out, os.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
		}
		late <- f
	}()
	began := time.Now()
	s := open(t, Config{Stdout: out})
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("the process could start after %v, before there was a reader", took)
	}
	wait(t, process(t, s, "echo hello"), s)
	stdout := <-late
	defer stdout.Close()
	if got := string(readAll(t, stdout)); got != "hello\n" {
		t.Errorf("got %q", got)
	}
}

// TestReaderChanges: while no reader is there the process waits, and gets no EPIPE.
func TestReaderChanges(t *testing.T) {
	spotless(t)
	out, in := newFifo(t, "out"), newFifo(t, "in")
	first, keys := client(t, out, os.O_RDONLY), client(t, in, os.O_RDWR)
	s := open(t, Config{Stdin: in, Stdout: out})
	cmd := process(t, s, "echo one; read x; echo two; head -c 100000 /dev/zero")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(first, buf); err != nil || string(buf) != "one\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	first.Close()
	if _, err := keys.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	second := client(t, out, os.O_RDONLY)
	got := readAll(t, second)
	wait(t, cmd, s)
	if want := len("two\n") + 100000; len(got) != want || !bytes.HasPrefix(got, []byte("two\n")) {
		t.Errorf("the second reader got %d bytes of %d, %.8q", len(got), want, got)
	}
}

// TestNobodyReads: the process starts all the same, and Close does not wait for a reader.
func TestNobodyReads(t *testing.T) {
	spotless(t)
	out := newFifo(t, "out")
	s := open(t, Config{Stdout: out})
	cmd := process(t, s, "head -c 1000000 /dev/zero")
	time.Sleep(50 * time.Millisecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("close took %v", took)
	}
}

func TestCanceledOpen(t *testing.T) {
	spotless(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := Open(ctx, Config{Stdout: newFifo(t, "out")}); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestInput: all that the client wrote before it closed its end reaches the process, whose input ends then, in any order
// of the closing of the fifo and the call of CloseInput.
func TestInput(t *testing.T) {
	text := strings.Repeat("0123456789abcde\n", 1<<14) // more than a fifo holds
	for name, closing := range map[string]func(*Streams, *os.File){
		"fifo first": func(s *Streams, f *os.File) { f.Close(); time.Sleep(20 * time.Millisecond); s.CloseInput() },
		"call first": func(s *Streams, f *os.File) { s.CloseInput(); time.Sleep(20 * time.Millisecond); f.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			spotless(t)
			in, out := newFifo(t, "in"), newFifo(t, "out")
			stdout := client(t, out, os.O_RDONLY)
			s := open(t, Config{Stdin: in, Stdout: out})
			keys := client(t, in, os.O_WRONLY)
			cmd := process(t, s, "sleep 0.1; cat") // slow to read
			wrote := make(chan error)
			go func() {
				_, err := keys.WriteString(text)
				closing(s, keys)
				wrote <- err
			}()
			got := string(readAll(t, stdout))
			if err := <-wrote; err != nil {
				t.Error(err)
			}
			if got != text {
				t.Errorf("%d bytes of %d came back", len(got), len(text))
			}
			wait(t, cmd, s)
		})
	}
}

// TestInputStays: a client that goes does not end the input, because another may come.
func TestInputStays(t *testing.T) {
	spotless(t)
	in, out := newFifo(t, "in"), newFifo(t, "out")
	stdout := client(t, out, os.O_RDONLY)
	s := open(t, Config{Stdin: in, Stdout: out})
	cmd := process(t, s, "cat")
	for _, text := range []string{"one ", "two"} {
		keys := client(t, in, os.O_WRONLY)
		if _, err := keys.WriteString(text); err != nil {
			t.Fatal(err)
		}
		keys.Close()
		time.Sleep(20 * time.Millisecond)
	}
	s.CloseInput()
	s.CloseInput()
	if got := string(readAll(t, stdout)); got != "one two" {
		t.Errorf("got %q", got)
	}
	wait(t, cmd, s)
}

// TestClientNeverComes: neither to the input nor, for a process without any, to anything.
func TestClientNeverComes(t *testing.T) {
	spotless(t)
	s := open(t, Config{Stdin: newFifo(t, "in")})
	cmd := process(t, s, "cat")
	s.CloseInput()
	wait(t, cmd, s)
	s = open(t, Config{})
	wait(t, process(t, s, "cat; echo x; echo x >&2"), s)
}

func TestInputFromFile(t *testing.T) {
	spotless(t)
	in, out := filepath.Join(t.TempDir(), "in"), newFifo(t, "out")
	if err := os.WriteFile(in, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout := client(t, out, os.O_RDONLY)
	s := open(t, Config{Stdin: in, Stdout: out})
	wait(t, process(t, s, "cat"), s)
	if got := string(readAll(t, stdout)); got != "content" {
		t.Errorf("got %q", got)
	}
}

func TestErrors(t *testing.T) {
	out := newFifo(t, "out")
	reader := client(t, out, os.O_RDONLY)
	defer reader.Close()
	for name, tt := range map[string]struct {
		c    Config
		want string
	}{
		"no fifo for stdout":  {Config{Stdout: "/does/not/exist"}, "open stdout: stat /does/not/exist"},
		"no fifo for stderr":  {Config{Stdout: out, Stderr: "/does/not/exist"}, "open stderr: stat /does/not/exist"},
		"no fifo for stdin":   {Config{Stdin: "/does/not/exist", Stdout: out}, "open stdin: stat /does/not/exist"},
		"no fifo for the tty": {Config{Stdin: "/does/not/exist", Stdout: out, Terminal: true}, "open stdin: stat /does/not/exist"},
		"unknown scheme":      {Config{Stdout: "ftp://host/log"}, `unknown scheme "ftp" (use a fifo's absolute path, file:// or binary://)`},
		"not a URI":           {Config{Stdout: ":"}, "missing protocol scheme"},
		"not a directory":     {Config{Stdout: "file:///dev/null/log"}, "open stdout: mkdir /dev/null"},
		"no program":          {Config{Stdout: "binary:///does/not/exist"}, "open stdout: logging program /does/not/exist"},
	} {
		t.Run(name, func(t *testing.T) {
			spotless(t)
			if _, err := Open(context.Background(), tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
