package artifact

import (
	"fmt"
	"os"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
	"github.com/hachi-run/hachi/runtime/artifact/rewrite"
	"github.com/hachi-run/hachi/runtime/artifact/symbol"
)

// Symbols returns what is needed to read the stack traces of a guest that Load loaded from the same files: its
// Resolve puts names and source lines into wazero's error messages. Without an artefact it takes the names from the module, and
// there are no lines. Read it when a guest has trapped, not before: it may take some milliseconds and megabytes.
func Symbols(module, artifact *os.File) (*symbol.Table, error) {
	if artifact != nil {
		if t, err := storedSymbols(artifact); err == nil {
			return t, nil
		} else if module == nil {
			return nil, fmt.Errorf("symbols: %w", err)
		}
	}
	wasm, err := readModule(module)
	if err != nil {
		return nil, fmt.Errorf("symbols: %w", err)
	}
	m, err := rewrite.Parse(wasm)
	if err != nil {
		return nil, fmt.Errorf("symbols: %w", err)
	}
	run, err := m.Preemptible()
	if err != nil {
		run = m
	}
	return &symbol.Table{Names: names(m, run)}, nil
}

func storedSymbols(artifact *os.File) (*symbol.Table, error) {
	st, err := artifact.Stat()
	if err != nil {
		return nil, err
	}
	h, err := layout.ReadHeader(artifact, st.Size())
	if err != nil {
		return nil, err
	}
	b, err := h.Read(artifact, layout.Symbols)
	if err != nil {
		return nil, err
	}
	return symbol.Unmarshal(b)
}
