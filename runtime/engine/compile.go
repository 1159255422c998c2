package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Compiler returns a function that compiles module into out in a short-lived engine process of its own, which is
// jailed before it reads the module. A nil starter starts plain children.
func Compiler(binary string, starter Starter) func(ctx context.Context, module, out *os.File) error {
	if starter == nil {
		starter = plain
	}
	return func(ctx context.Context, module, out *os.File) error {
		reason, theirs, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("compile: %w", err)
		}
		defer reason.Close()
		cmd := exec.Command(binary, "compile")
		cmd.Env = []string{}
		cmd.Stderr = theirs
		cmd.ExtraFiles = []*os.File{module, out}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		wait, err := starter(cmd)
		theirs.Close()
		if err != nil {
			return fmt.Errorf("compile: %w", err)
		}
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		defer stop()

		var said bytes.Buffer
		_, _ = said.ReadFrom(&limited{reason, maxReason}) // the status below tells success
		switch status := wait(); {
		case status == 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("compile: %w", context.Cause(ctx))
		case said.Len() > 0:
			return errors.New(printable(said.String()))
		default:
			return fmt.Errorf("compile: the worker ended with status %d (too large a module for its memory limit?)", status)
		}
	}
}

// limited reads to the end but hands on only the first left bytes, so that the writer never blocks.
type limited struct {
	file *os.File
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.file.Read(p)
	kept := min(n, l.left)
	l.left -= kept
	return kept, err
}
