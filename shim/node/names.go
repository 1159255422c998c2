package node

import (
	"sync"
	"time"

	"github.com/hachi-run/hachi/shim/ledger"
)

// lookAgain is how soon the ledger is read again for a cgroup that was not in it.
const lookAgain = 200 * time.Millisecond

// maxNames bounds the memory for names; more are only of containers that ended.
const maxNames = 8192

// names knows whose a cgroup is or was.
type names struct {
	ledger *ledger.Ledger

	mu     sync.Mutex
	known  map[uint64]owner // guarded by mu
	looked time.Time        // guarded by mu: when the ledger was read
}

type owner struct{ namespace, pod, container, id string }

// of returns the owner of a cgroup, empty if nobody knows. A container is in the ledger before it can make a connection,
// so one that is not known may be new.
func (n *names) of(cgroup uint64) owner {
	n.mu.Lock()
	defer n.mu.Unlock()
	o, known := n.known[cgroup]
	if !known && time.Since(n.looked) > lookAgain {
		n.load()
		o = n.known[cgroup]
	}
	return o
}

// refresh reads the ledger: the number of a cgroup that is gone may be another's by now.
func (n *names) refresh() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.load()
}

// load reads exits first: of two containers with one number the one that lives has it now. What cannot be read has no
// name, and the other readers of the ledger say so.
func (n *names) load() {
	n.looked = time.Now()
	if n.known == nil || len(n.known) > maxNames {
		n.known = map[uint64]owner{}
	}
	exits, _ := n.ledger.Exited()
	for _, x := range exits {
		n.known[x.CgroupID] = owner{x.Namespace, x.Pod, x.Container, x.ID}
	}
	entries, _ := n.ledger.Entries()
	for _, e := range entries {
		n.known[e.CgroupID] = owner{e.Namespace, e.Pod, e.Container, e.ID}
	}
}
