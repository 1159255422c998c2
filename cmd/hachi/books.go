package main

import (
	"github.com/spf13/pflag"

	"github.com/hachi-run/hachi/bpf/pin"
	"github.com/hachi-run/hachi/shim/ledger"
	"github.com/hachi-run/hachi/shim/node"
)

// bookFlags say where the node keeps its books.
type bookFlags struct{ node.Options }

func (f *bookFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.Ledger, "ledger", ledger.Dir, "`DIRECTORY` in which shims write down their containers")
	flags.StringVar(&f.Pins, "pins", pin.DefaultRoot, "`DIRECTORY` on a bpf file system with hachi's pins")
}

func (f *bookFlags) open() (*node.Node, error) { return node.Open(f.Options) }
