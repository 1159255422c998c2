package wasi

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"
	"go.uber.org/goleak"
)

// compiled keeps each guest's native code for the whole run: compiling net/http takes seconds.
var compiled = wazero.NewCompilationCache()

func TestMain(m *testing.M) {
	flag.Parse()
	before := openFiles()
	code := m.Run()
	_ = compiled.Close(context.Background())
	if guests.dir != "" {
		_ = os.RemoveAll(guests.dir)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if after := openFiles(); after > before {
		fmt.Fprintf(os.Stderr, "descriptors: %d before the tests, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// openFiles counts this process's descriptors but those of Go's own poller, which appear with the
// first use.
func openFiles() int {
	r, w, err := os.Pipe()
	if err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}
