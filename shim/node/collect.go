package node

import (
	"errors"
	"io/fs"
)

// Collect clears away what dead pods left: pins of cgroups that are gone, and entries of containers whose shim was killed,
// whose last readings become exit records. On a node where nothing is loaded the ledger alone is looked at.
func (n *Node) Collect() error {
	observer, err := n.observing()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(err)
	}
	_, err = n.ledger.Collect(observer, nil)
	return explain(err)
}
