package wasi

import (
	"context"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/hachi-run/hachi/internal/testenv"
)

// compiled keeps each guest's native code for the whole run: compiling net/http takes seconds.
var compiled = wazero.NewCompilationCache()

func TestMain(m *testing.M) {
	code := testenv.Main(m)
	_ = compiled.Close(context.Background())
	if guests.dir != "" {
		_ = os.RemoveAll(guests.dir)
	}
	os.Exit(code)
}
