package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	versions "github.com/containerd/containerd/api/services/version/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	// answerTime is how long containerd may take for an answer.
	answerTime = 3 * time.Second
	launcher   = "containerd-shim-hachi-v1"
	// optBin is a directory that containerd adds to its own PATH.
	optBin = "/opt/containerd/bin"
)

// daemon is a running containerd, or why there is none.
type daemon struct {
	address string
	// socket is the finding about its socket; the others are made only where that is OK.
	socket Finding
	// dirs is where it looks for programs, in order; dirsErr is why that is not known.
	dirs    []string
	dirsErr error
	cri     Finding
}

func inspectDaemon(ctx context.Context, address string) *daemon {
	d := &daemon{address: strings.TrimPrefix(address, "unix://")}
	pid, err := listener(d.address)
	if err != nil {
		d.socket = noSocket(d.address, err)
		return d
	}
	d.dirs, d.dirsErr = programDirs(pid)
	conn, err := grpc.NewClient("passthrough:///containerd",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.address)
		}))
	if err != nil {
		d.socket = unknown("containerd", forPods, "%s: %v", d.address, err)
		return d
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	reply, err := versions.NewVersionClient(conn).Version(ctx, &emptypb.Empty{})
	if err != nil {
		d.socket = unknown("containerd", forPods, "%s does not answer: %v", d.address, err)
		return d
	}
	d.socket = judgeVersion(d.address, reply.GetVersion())
	d.cri = handlers(ctx, conn)
	return d
}

func noSocket(address string, err error) Finding {
	needs := "containerd 1.7 or 2.x, running; --address if it listens elsewhere"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing("containerd", forPods, needs, "no socket at %s", address)
	case errors.Is(err, unix.ECONNREFUSED):
		return missing("containerd", forPods, needs, "nobody listens at %s", address)
	}
	return unknown("containerd", forPods, "%v", err)
}

func judgeVersion(address, version string) Finding {
	var v [2]int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &v[0], &v[1]); err != nil {
		return unknown("containerd", forPods, "version %q at %s", version, address)
	}
	if v[0] < 1 || v[0] == 1 && v[1] < 7 {
		return missing("containerd", forPods, "containerd 1.7 or 2.x", "%s at %s", version, address)
	}
	return ok("containerd", forPods, "%s at %s", version, address)
}

// listener returns the process that made the socket at path; 0 when it is in a pid namespace that we do not see.
func listener(path string) (pid int32, err error) {
	conn, err := net.DialTimeout("unix", path, answerTime)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, err
	}
	return peer.Pid, nil
}

// programDirs returns the directories in which containerd, process pid, finds programs, as paths of its own mount namespace
// seen from here.
func programDirs(pid int32) ([]string, error) {
	if pid == 0 {
		return nil, errors.New("containerd runs in another pid namespace")
	}
	proc := fmt.Sprintf("/proc/%d", pid)
	environ, err := os.ReadFile(proc + "/environ")
	if err != nil {
		return nil, err
	}
	root := proc + "/root"
	var dirs []string
	for v := range strings.SplitSeq(string(environ), "\x00") {
		if path, found := strings.CutPrefix(v, "PATH="); found {
			dirs = filepath.SplitList(path)
		}
	}
	dirs = append(dirs, optBin)
	if exe, err := os.Readlink(proc + "/exe"); err == nil {
		dirs = append(dirs, filepath.Dir(exe))
	}
	for k, dir := range dirs {
		dirs[k] = filepath.Join(root, dir)
	}
	return dirs, nil
}

func (d *daemon) findings() []Finding {
	out := []Finding{d.socket}
	if d.socket.Status != OK {
		return append(out, d.program("runc", forLinux, "runc: apt install runc, or the release's binary"))
	}
	return append(out, d.runtime(), d.program("runc", forLinux, "runc on containerd's PATH"), d.cri)
}

// runtime looks for hachi's own programs where containerd will.
func (d *daemon) runtime() Finding {
	const name = "hachi on containerd's PATH"
	if d.dirsErr != nil {
		return unknown(name, forPods, "%v", d.dirsErr)
	}
	path := lookUp(d.dirs, launcher)
	if path == "" {
		return missing(name, forPods, "hachi's programs in a directory of "+plain(d.dirs), "no %s", launcher)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return unknown(name, forPods, "%v", err)
	}
	for _, program := range []string{"hachi-shim", "hachi-engine", "hachi-linux"} {
		if !executable(filepath.Join(filepath.Dir(real), program)) {
			return missing(name, forPods, program+" beside "+launcher, "%s alone", seen(path))
		}
	}
	return ok(name, forPods, "%s", seen(path))
}

// program looks for another program; without a containerd, on our own PATH.
func (d *daemon) program(name, need, needs string) Finding {
	dirs := d.dirs
	if dirs == nil {
		if d.dirsErr != nil {
			return unknown(name, need, "%v", d.dirsErr)
		}
		dirs = filepath.SplitList(os.Getenv("PATH"))
	}
	if path := lookUp(dirs, name); path != "" {
		return ok(name, need, "%s", seen(path))
	}
	return missing(name, need, needs, "not in %s", plain(dirs))
}

func lookUp(dirs []string, name string) string {
	for _, dir := range dirs {
		if path := filepath.Join(dir, name); filepath.IsAbs(dir) && executable(path) {
			return path
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil
}

// seen is a path as its process writes it: without /proc/PID/root.
func seen(path string) string {
	rest, found := strings.CutPrefix(path, "/proc/")
	if !found {
		return path
	}
	if _, rest, found = strings.Cut(rest, "/root"); !found {
		return path
	}
	return rest
}

func plain(dirs []string) string {
	out := make([]string, len(dirs))
	for k, dir := range dirs {
		out[k] = seen(dir)
	}
	return strings.Join(out, ":")
}
