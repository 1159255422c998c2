package hostile

import (
	"os"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// program is a compiled guest from testdata.
func program(t testing.TB, name string) string {
	t.Helper()
	return guest.Built(t, guest.WASI, "conformance/hostile/testdata/"+name+".c")
}
