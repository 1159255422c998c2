package launch

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Launcher is one execution of the binary. It answers
//
//   - start with a BootstrapResult message (containerd 2.3 and later), a JSON document (2.0 to 2.2) or a
//     plain address (1.6 and 1.7);
//   - delete with a DeleteResponse message;
//   - -info with a RuntimeInfo message, and -v with text.
//
// containerd reads stdout and stderr of start as one stream, so nothing is written to stderr unless the
// launcher fails.
type Launcher struct {
	Args           []string // without the program's name
	Env            []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Server string // the pod server's executable
	Parent string // the executable of the calling containerd, or a link to it
	Self   string // the launcher's own executable, for its version
}

// Run executes the launcher with the process's environment and returns its exit status: 0, or 1 with one
// line on stderr.
func Run(args []string, stdin, stdout, stderr *os.File) int {
	l := &Launcher{
		Args: args, Env: os.Environ(), Stdin: stdin, Stdout: descriptor(stdout.Fd()), Stderr: stderr,
		Parent: callerExecutable(), Self: "/proc/self/exe",
	}
	var err error
	if l.Server, err = serverPath(); err == nil {
		err = l.Do()
	}
	if err != nil {
		_, _ = io.WriteString(stderr, "hachi: "+err.Error()+"\n")
		return 1
	}
	return 0
}

// descriptor writes to a file descriptor. For 1 and 2 an os.File would end the process when nobody
// reads any more, but a server that nobody was told about has to be ended first.
type descriptor int

func (d descriptor) Write(b []byte) (int, error) {
	for done := 0; ; {
		n, err := syscall.Write(int(d), b[done:])
		if n > 0 {
			done += n
		}
		if err == syscall.EINTR || err == nil && done < len(b) {
			continue
		}
		return done, err
	}
}

// Do performs the action that the arguments ask for. After a delete of a Linux container it does not
// return, because the server's binary takes over the process.
func (l *Launcher) Do() error {
	f, err := parseFlags(l.Args)
	if err != nil {
		return err
	}
	if f.version {
		return l.printVersion()
	}
	if f.info {
		return l.info()
	}
	if f.namespace == "" {
		f.namespace, _ = getenv(l.Env, "NAMESPACE")
	}
	if f.address == "" {
		f.address, _ = getenv(l.Env, "GRPC_ADDRESS")
	}
	if f.bundle != "" {
		// The server's arguments and files are relative to the bundle, and must not depend on where we are.
		if f.bundle, err = filepath.Abs(f.bundle); err != nil {
			return fail("find bundle", f.bundle, err, "")
		}
	}
	switch f.action {
	case "start":
		return l.start(f)
	case "delete":
		return l.delete(f)
	case "":
		return fail("read flags", "action", errors.New("missing"), "containerd runs this program; want start, delete or -info")
	}
	return fail("read flags", "action "+strconv.Quote(f.action), errors.New("not known"), "want start, delete or -info")
}
