package launch

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// featuresURL names the type of the features document (runtime-spec features.md) as containerd's core
// registers it.
const featuresURL = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// featuresTimeout bounds `runc features`, which takes some 20 ms.
const featuresTimeout = 2 * time.Second

// ownFeatures is what the engine's jail does for a Wasm container (package jail reads these mount
// options), for hosts where runc does not speak for itself. It promises neither user namespaces nor
// mapped mounts.
const ownFeatures = `{"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0",` +
	`"mountOptions":["atime","bind","defaults","dev","diratime","exec","noatime","nodev","nodiratime","noexec",` +
	`"norelatime","nosuid","nosymfollow","private","rbind","rdev","rexec","rnodev","rnoexec","rnosuid","ro","rprivate",` +
	`"rro","rrw","rslave","rsuid","rw","slave","strictatime","suid","symfollow"],` +
	`"linux":{"namespaces":["ipc","mount","network","pid","uts"],"cgroup":{"v1":true,"v2":true},` +
	`"mountExtensions":{"idmap":{"enabled":false}}}}`

// runtimeFeatures asks runc, which runs the Linux containers of a pod, what it can do. CRI reads recursive
// read-only mounts and user namespaces off the answer.
func runtimeFeatures(runc, searchPath string) []byte {
	if path, err := lookPath(runc, searchPath); err == nil {
		if b, err := output(path, "features"); err == nil && isObject(b) {
			return b
		}
	}
	return []byte(ownFeatures)
}

// runcName is the binary that the runtime options name, when they are runc's own (containerd.runc.v1.Options,
// field 6), else runc.
func runcName(typeURL string, value []byte) string {
	name := "runc"
	if filepath.Base(typeURL) != "containerd.runc.v1.Options" {
		return name
	}
	_ = eachField(value, func(f protoField) error {
		if f.id == 6 && f.wire == wireBytes && len(f.bytes) > 0 {
			name = string(f.bytes)
		}
		return nil
	})
	return name
}

func isObject(b []byte) bool {
	r := &jsonReader{b: b}
	return r.peek() == '{' && r.skip() == nil && r.end() == nil
}

// lookPath finds an executable as a shell would, but never in the working directory.
func lookPath(name, searchPath string) (string, error) {
	candidates := []string{name}
	if filepath.Base(name) == name {
		candidates = nil
		for _, dir := range filepath.SplitList(searchPath) {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	for _, path := range candidates {
		st, err := os.Stat(path)
		if err == nil && filepath.IsAbs(path) && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errors.New("not on PATH")
}

// output runs a program to its end and returns what it printed. os/exec would do the same for 300 kB.
func output(path string, args ...string) ([]byte, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	pid, err := syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{null.Fd(), w.Fd(), null.Fd()},
	})
	w.Close()
	if err != nil {
		return nil, err
	}
	// A deadline on the pipe rather than a timer on the process: the number stays ours until Wait4.
	_ = r.SetReadDeadline(time.Now().Add(featuresTimeout))
	b, err := readAll(r, 1<<20)
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	var status syscall.WaitStatus
	for {
		if _, werr := syscall.Wait4(pid, &status, 0, nil); werr != syscall.EINTR {
			break
		}
	}
	if err == nil && status != 0 {
		err = errors.New("failed")
	}
	return b, err
}
