// Package stdio connects a container process to where containerd wants its input and output: fifos,
// files, logging programs or a terminal.
//
// A guest reads from containerd's fifo and writes into its fifo, file or program; nothing copies the bytes, so nothing
// can be lost between a write and the end of the one who wrote. Only a terminal needs the shim in the middle.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// drainWait bounds how long Close waits for a reader of a terminal's last output.
const drainWait = 2 * time.Second

// Config says where the streams go, in the task API's words: a path of a fifo, or a file:// or binary://
// URI; an empty one is /dev/null.
type Config struct {
	Stdin, Stdout, Stderr string
	// Terminal makes a pty of all three; Stderr is not used then.
	Terminal bool
	// ID and Namespace are told to a logging program.
	ID, Namespace string
}

// Streams are the open streams of one process. The methods are safe for concurrent use.
type Streams struct {
	// Stdin, Stdout and Stderr are for the process; nil means /dev/null. Started closes them here.
	Stdin, Stdout, Stderr *os.File

	console *os.File // the terminal's master; nil without one
	keys    *os.File // the client's stdin fifo, which is copied to the terminal
	screen  *os.File // where the terminal's output is copied to
	loggers []*logger
	typing  sync.WaitGroup // the copy to the terminal, which release ends
	showing sync.WaitGroup // the copy from the terminal, which the end of all its users ends

	mu    sync.Mutex
	input *os.File   // guarded by mu: a write end of the stdin fifo; while it is open there is no end of input
	hold  []*os.File // guarded by mu: read ends of the output fifos

	finish sync.Once
	ended  chan struct{} // closed when nothing is left
}

// Open opens what c names. It waits for the readers of fifos, for a few seconds at most, and for logging programs.
// The caller calls Started when the process has its ends, or will not get them, and Close in any case.
func Open(ctx context.Context, c Config) (*Streams, error) {
	s := &Streams{ended: make(chan struct{})}
	if err := s.open(ctx, c); err != nil {
		s.Started()
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Streams) open(ctx context.Context, c Config) (err error) {
	out, err := s.sink(ctx, c, c.Stdout)
	if err != nil {
		return fmt.Errorf("open stdout: %w", err)
	}
	if c.Terminal {
		return s.terminal(c.Stdin, out)
	}
	s.Stdout = out
	switch {
	case out != nil && c.Stderr == c.Stdout && len(s.loggers) > 0:
		s.Stderr = s.loggers[0].stderr
	default:
		if s.Stderr, err = s.sink(ctx, c, c.Stderr); err != nil {
			return fmt.Errorf("open stderr: %w", err)
		}
	}
	if s.Stdin, err = s.source(c.Stdin); err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	return nil
}

// Started closes the process's ends in the shim, after the process has them.
func (s *Streams) Started() {
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f != nil {
			f.Close() // a terminal is closed three times, which is harmless
		}
	}
	// A program that logs stdout alone sees the end of its stderr at once.
	for _, l := range s.loggers {
		l.stderr.Close()
	}
}

// Resize sets the terminal's size in characters.
func (s *Streams) Resize(width, height uint16) error {
	if s.console == nil {
		return errors.New("resize: the process has no terminal")
	}
	raw, err := s.console.SyscallConn() // not Fd, which would make reads block a thread
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// CloseInput lets the process's stdin end: it has read everything then, and the client has closed its own end.
func (s *Streams) CloseInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != nil {
		s.input.Close()
		s.input = nil
	}
}

// Finish is called when the process is gone: what it wrote reaches its reader, then the reader sees the
// end. It does not wait.
func (s *Streams) Finish() {
	s.finish.Do(func() {
		go func() {
			defer close(s.ended)
			s.showing.Wait()
			s.release()
			s.typing.Wait()
			for _, l := range s.loggers {
				l.close()
			}
		}()
	})
}

// Close is Finish, and waits for the end. A terminal's output that nobody reads is dropped after 2 s, a logging program that
// does not end is killed after 10 s.
func (s *Streams) Close() {
	s.Finish()
	drained := time.AfterFunc(drainWait, s.release)
	<-s.ended
	drained.Stop()
}

// release closes all that the shim holds open, which ends all copies.
func (s *Streams) release() {
	s.CloseInput()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.hold {
		f.Close()
	}
	s.hold = nil
	for _, f := range []*os.File{s.console, s.keys, s.screen} {
		if f != nil {
			f.Close()
		}
	}
}
