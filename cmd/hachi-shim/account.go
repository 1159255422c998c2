package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/server"
	"github.com/hachi-run/hachi/shim/steer"
)

// load loads the node's BPF programs, for a server that waits for it.
func load(ctx context.Context, stderr io.Writer) int {
	err := observe.Load(ctx, "")
	switch {
	case err == nil:
		return 0
	case errors.Is(err, observe.ErrUnsupported):
		fmt.Fprintln(stderr, "hachi-shim:", err)
		return server.Unsupported
	default:
		fmt.Fprintln(stderr, "hachi-shim:", err)
		return 1
	}
}

// deathTime is how long a shim may take to die whose connections have ended. The launcher gives all of this a second.
const deathTime = 500 * time.Millisecond

// collect closes the accounts of containers whose servers were killed, and ends their redirection; an id, which may be
// empty, is that of one that is being deleted.
func collect(ctx context.Context, namespace, id string) error {
	book, err := ledger.Open(ledger.Dir)
	if err != nil {
		return err
	}
	o, err := observe.OpenExisting("")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if o != nil {
		defer o.Close()
	}
	doomed := func(e ledger.Entry) bool { return e.ID == id && e.ContainerdNamespace == namespace }
	dying, stop := context.WithTimeout(ctx, deathTime)
	defer stop()
	book.Await(dying, doomed) // a shim that lives on closes the account itself
	ended, err := book.Collect(o, doomed)
	return errors.Join(err, steer.Collect(ctx, ended))
}
