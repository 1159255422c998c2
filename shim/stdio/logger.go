package stdio

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// readyWait is how long a logging program may take to say that it is ready.
	readyWait = 10 * time.Second
	// loggerWait is how long it may take to read the rest after its container's end.
	loggerWait = 10 * time.Second
)

// logger is a program that takes a container's output, as binary:// URIs ask: it reads stdout from
// descriptor 3, stderr from 4, and closes 5 when it is ready (containerd's core/runtime/v2/README.md).
type logger struct {
	cmd            *exec.Cmd
	stdout, stderr *os.File // write ends
}

// startLogger starts the program of u and waits until it is ready. close ends it.
func startLogger(ctx context.Context, u *url.URL, id, namespace string) (_ *logger, err error) {
	cmd := exec.Command(u.Path, arguments(u.RawQuery)...)
	cmd.Env = []string{"CONTAINER_ID=" + id, "CONTAINER_NAMESPACE=" + namespace}
	l := &logger{cmd: cmd}
	var ready *os.File
	for _, ours := range []**os.File{&l.stdout, &l.stderr, &ready} {
		r, w, err := os.Pipe()
		if err != nil {
			l.close()
			closeFiles(cmd.ExtraFiles)
			return nil, fmt.Errorf("start logging program: %w", err)
		}
		if ours == &ready {
			r, w = w, r
		}
		*ours = w
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	}
	defer ready.Close()
	err = cmd.Start()
	closeFiles(cmd.ExtraFiles)
	if err == nil {
		err = awaitReady(ctx, ready, u.Scheme == "binary-v2")
	}
	if err != nil {
		if cmd.Process != nil {
			_ = cmd.Process.Kill() // it is not ready and never will be
		}
		l.close()
		return nil, fmt.Errorf("logging program %s: %w", u.Path, err)
	}
	return l, nil
}

// awaitReady waits until the program has closed its end, or has written a byte if it must.
func awaitReady(ctx context.Context, ready *os.File, byteNeeded bool) error {
	if err := ready.SetReadDeadline(time.Now().Add(readyWait)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	switch n, err := ready.Read(make([]byte, 1)); {
	case ctx.Err() != nil:
		return fmt.Errorf("not ready: %w", context.Cause(ctx))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("not ready after %v (it has to close descriptor 5)", readyWait)
	case n == 0 && byteNeeded:
		return errors.New("ended before it was ready (it has to write a byte to descriptor 5)")
	}
	return nil
}

// arguments takes keys and values from a query as they stand, as words.
func arguments(query string) []string {
	var args []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		for _, word := range []string{key, value} {
			if plain, err := url.QueryUnescape(word); err == nil {
				word = plain
			}
			args = append(args, word)
		}
	}
	return args
}

// close lets the program read to the end of its pipes, and waits for its end.
func (l *logger) close() {
	for _, f := range []*os.File{l.stdout, l.stderr} {
		if f != nil {
			f.Close()
		}
	}
	if l.cmd.Process == nil {
		return
	}
	kill := time.AfterFunc(loggerWait, func() { _ = l.cmd.Process.Kill() })
	defer kill.Stop()
	_ = l.cmd.Wait() // whatever it thinks of it: it is over
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
