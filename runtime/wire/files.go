package wire

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Files are the descriptors that go beside a Config, in this order and exactly as many as it says. They are handed over
// with it (SCM_RIGHTS, unix(7)) and not inherited, so that a process can be on its way before it is known what it runs.
type Files struct {
	// Module is the original module's bytes; nil for a toolbox command.
	Module *os.File
	// Artifact is the compiled form that package artifact stored; nil means compile in place.
	Artifact *os.File
	// Root is a finished root file system, an O_PATH descriptor; nil means that the engine builds one or needs none.
	Root *os.File
}

// maxFiles is how many there can be.
const maxFiles = 3

// Close closes what is there.
func (f *Files) Close() {
	for _, one := range []*os.File{f.Module, f.Artifact, f.Root} {
		if one != nil {
			one.Close()
		}
	}
}

// slots are the places of the files that c says are there.
func (c *Config) slots(f *Files) []**os.File {
	var out []**os.File
	if c.Module != nil {
		out = append(out, &f.Module)
		if c.Module.Compiled {
			out = append(out, &f.Artifact)
		}
	}
	if c.Join {
		out = append(out, &f.Root)
	}
	return out
}

// Send sends a configuration over the control socket with the files that it says are there. They stay the caller's.
func Send(control *os.File, c *Config, f Files) error {
	frame, err := encode(&Message{Config: c})
	if err != nil {
		return err
	}
	var rights []byte
	if slots := c.slots(&f); len(slots) > 0 {
		fds := make([]int, len(slots))
		for i, slot := range slots {
			if *slot == nil {
				return errors.New("write frame: configuration names a file that is not there")
			}
			fds[i] = int((*slot).Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	sent := 0
	// The descriptors go with the first byte that is taken.
	err = retry(control, true, func(fd int) (err error) {
		sent, err = unix.SendmsgN(fd, frame, rights, nil, unix.MSG_NOSIGNAL)
		return err
	})
	if err == nil && sent < len(frame) {
		_, err = control.Write(frame[sent:])
	}
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// Receive receives what Send sent; the caller closes the files. It is io.EOF when the other side closed without a word.
// A frame of another kind, or with other than the files that it says are there, is refused and its files are closed.
func Receive(control *os.File) (c *Config, f Files, err error) {
	head, files, err := receiveHead(control)
	defer func() {
		if err != nil {
			for _, one := range files {
				one.Close()
			}
			c, f = nil, Files{}
		}
	}()
	if err != nil {
		return nil, f, err
	}
	m, err := decode(head, control, MaxFrame)
	if err != nil {
		return nil, f, err
	}
	if c = m.Config; c == nil {
		return nil, f, errors.New("read frame: not a configuration")
	}
	slots := c.slots(&f)
	if len(slots) != len(files) {
		return nil, f, fmt.Errorf("read frame: %d descriptors beside a configuration for %d", len(files), len(slots))
	}
	for i, slot := range slots {
		*slot = files[i]
	}
	return c, f, nil
}

// receiveHead reads a frame's length and the descriptors that came with it.
func receiveHead(control *os.File) (head [headSize]byte, files []*os.File, err error) {
	// Room for one more than there can be, so that it shows.
	oob := make([]byte, unix.CmsgSpace(4*(maxFiles+1)))
	var n, oobn, flags int
	err = retry(control, false, func(fd int) (err error) {
		n, oobn, flags, _, err = unix.Recvmsg(fd, head[:], oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err == nil {
		files, err = rights(oob[:oobn])
	}
	switch {
	case err != nil:
	case n == 0:
		err = io.EOF
	case flags&unix.MSG_CTRUNC != 0:
		err = errors.New("more descriptors than a configuration has")
	default:
		if _, err = io.ReadFull(control, head[n:]); errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read frame: %w", err)
	}
	return head, files, err
}

// rights makes files of the descriptors in a control message.
func rights(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		fds, perr := unix.ParseUnixRights(&m)
		err = errors.Join(err, perr)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, err
}

// retry makes a call on a descriptor until it does not have to wait.
func retry(f *os.File, write bool, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	wait := raw.Read
	if write {
		wait = raw.Write
	}
	var failed error
	err = wait(func(fd uintptr) bool {
		for {
			if failed = call(int(fd)); !errors.Is(failed, unix.EINTR) {
				return !errors.Is(failed, unix.EAGAIN)
			}
		}
	})
	return errors.Join(err, failed)
}
