package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// PIDs is the process id namespace that containers of a pod share (shareProcessNamespace). containerd names it by the
// sandbox's pid, which is the server's own, and the server lives in the node's: so a process of its own is the first of
// a new namespace, from the first container that asks until Close.
type PIDs struct {
	// Binary is the path of hachi-engine.
	Binary string
	// Start starts a child that dies with the server.
	Start func(*exec.Cmd) (wait func() int, err error)

	mu     sync.Mutex
	holder *os.Process // guarded by mu; nil before the first use
	life   *os.File    // guarded by mu: the holder ends when it is closed
	ended  chan struct{}
}

// Redirect makes a container that would join the server's own process id namespace join the pod's instead, and tells
// whether it changed the specification.
func (p *PIDs) Redirect(spec *specs.Spec) (changed bool, err error) {
	for i := range spec.Linux.Namespaces {
		n := &spec.Linux.Namespaces[i]
		if n.Type != specs.PIDNamespace || n.Path == "" || !ours(n.Path) {
			continue
		}
		path, err := p.path()
		if err != nil {
			return false, fmt.Errorf("share process namespace: %w", err)
		}
		n.Path, changed = path, true
	}
	return changed, nil
}

// ours tells whether path is the namespace of this process.
func ours(path string) bool {
	a, aerr := os.Stat(path)
	b, berr := os.Stat("/proc/self/ns/pid")
	return aerr == nil && berr == nil && os.SameFile(a, b)
}

func (p *PIDs) path() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holder == nil {
		if err := p.hold(); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("/proc/%d/ns/pid", p.holder.Pid), nil
}

// hold starts the namespace's first process. p.mu is held.
func (p *PIDs) hold() error {
	theirs, life, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	cmd := exec.Command(p.Binary, "hold")
	cmd.Env = []string{}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID}
	wait, err := p.Start(cmd)
	if err != nil {
		life.Close()
		return err
	}
	p.holder, p.life, p.ended = cmd.Process, life, make(chan struct{})
	go func(ended chan<- struct{}) {
		defer close(ended)
		wait()
	}(p.ended)
	return nil
}

// Close ends the namespace and every process that is still in it.
func (p *PIDs) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holder == nil {
		return
	}
	p.life.Close()
	<-p.ended
	p.holder = nil
}
