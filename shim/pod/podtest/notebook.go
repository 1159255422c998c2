package podtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
	"github.com/hachi-run/hachi/shim/pod"
)

// Notebook is a pod.Observer that notes down what it is told, and what is there at that moment.
type Notebook struct {
	// Port, when it is not 0, is one whose state is noted.
	Port int

	mu    sync.Mutex
	notes []string // guarded by mu
}

// Notes are all notes so far.
func (n *Notebook) Notes() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.notes...)
}

func (n *Notebook) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes = append(n.notes, fmt.Sprintf(format, args...))
}

// Observe implements pod.Observer.
func (n *Notebook) Observe(id string, annotations map[string]string, g pod.Group) pod.Observation {
	pids, err := g.Pids()
	n.note("observe %s %s: %d processes, error %v", id, annotations["test"], len(pids), err)
	return &page{n: n, id: id, g: g}
}

// page is an Observation.
type page struct {
	n    *Notebook
	id   string
	g    pod.Group
	once sync.Once
}

func (p *page) Ready(context.Context) {
	state := "closed"
	if c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", p.n.Port)); err == nil {
		c.Close()
		state = "open"
	}
	p.n.note("ready %s: port %s", p.id, state)
}

func (p *page) Traffic() *metrics.Network {
	p.n.note("traffic %s", p.id)
	return &metrics.Network{Name: p.id}
}

func (p *page) End() { p.finish("end") }

func (p *page) Undo() { p.finish("undo") }

func (p *page) finish(word string) {
	p.once.Do(func() {
		var gone, busy int
		for _, dir := range p.g.Dirs() {
			procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				gone++
			}
			// While the server starts something it is in v1 groups itself.
			busy += len(strings.Fields(strings.ReplaceAll(string(procs), fmt.Sprint(os.Getpid()), "")))
		}
		p.n.note("%s %s: %d processes, %d groups gone", word, p.id, busy, gone)
	})
}
