package launch

import (
	"os"
	"strings"
	"syscall"
)

// start makes sure that the container's pod has a server and prints its address.
func (l *Launcher) start(f *flags) error {
	input, err := readAll(l.Stdin, maxInput)
	if err != nil {
		return fail("read bootstrap", "stdin", err, "")
	}
	b, err := readBootstrap(f, input, func() form { return legacyForm(l.Parent) })
	if err != nil {
		return err
	}
	s, err := readSpec(f.bundle)
	if err != nil {
		return err
	}
	pod, err := group(b.id, s)
	if err != nil {
		return err
	}
	path, err := SocketPath(b.socketDir, b.address, b.namespace, pod)
	if err != nil {
		return err
	}
	held, err := lock(path)
	if err != nil {
		return err
	}
	defer held.unlock()
	// Before there is a socket, so that delete finds it even if we are killed on the way.
	if err := writeAddress(f.bundle, path); err != nil {
		return err
	}
	fd, err := listen(path)
	if err != nil {
		return err
	}
	if fd < 0 {
		return l.announce(b.form, path)
	}
	defer syscall.Close(fd)
	pid, err := l.serve(f.bundle, b, s, pod, fd)
	if err == nil {
		if err = died(l.Server, pid); err == nil {
			err = l.announce(b.form, path)
		}
		if err == nil {
			return nil
		}
		// Nobody was told about the server, so nobody would ever end it.
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	_ = syscall.Unlink(path)
	return err
}

// serve starts the server of a pod, listening on fd. The namespaces are those of the pod's sandbox
// container, whichever of the pod's containers came first.
func (l *Launcher) serve(bundle string, b *bootstrap, s *spec, pod string, fd int) (int, error) {
	if pod != b.id {
		sandbox, err := readSpec(inBundle(bundle, "../"+pod))
		if err != nil {
			return 0, err
		}
		if sandbox != nil {
			s = sandbox
		}
	}
	v := &server{path: l.Server, dir: bundle, socket: fd, env: l.environment(b)}
	if s != nil {
		v.spaces = ofServer(s.spaces)
	}
	v.args = []string{"-namespace", b.namespace, "-id", pod, "-address", b.address}
	if b.debug {
		v.args = append(v.args, "-debug")
	}
	return v.start()
}

// writeAddress leaves the server's address in the bundle, where containerd 1.x looks for it after a
// restart, and delete in any case.
func writeAddress(bundle, socket string) error {
	file := inBundle(bundle, "address")
	if err := os.WriteFile(file, []byte(scheme+socket), 0o600); err != nil {
		return fail("write address", file, unwrapPath(err), "")
	}
	return nil
}

// announce tells containerd the server's address.
func (l *Launcher) announce(f form, socket string) error {
	if _, err := l.Stdout.Write(f.answer(scheme + socket)); err != nil {
		return fail("answer containerd", "stdout", unwrapPath(err), "")
	}
	return nil
}

// environment is the server's: the launcher's own, and what the server finds in it today but containerd
// says it will only put into the bootstrap parameters one day.
func (l *Launcher) environment(b *bootstrap) []string {
	env := l.Env[:len(l.Env):len(l.Env)]
	for _, v := range [][2]string{{"TTRPC_ADDRESS", b.ttrpcAddress}, {"GRPC_ADDRESS", b.address}, {"NAMESPACE", b.namespace}} {
		if _, ok := getenv(l.Env, v[0]); !ok && v[1] != "" {
			env = append(env, v[0]+"="+v[1])
		}
	}
	return env
}

// getenv returns the last value of name, which is the one that counts.
func getenv(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}
