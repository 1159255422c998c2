package launch

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBinaryIsSmallAndStatic(t *testing.T) {
	const limit = 2_000_000 // bytes
	path := filepath.Join(binaries(t), "containerd-shim-hachi-v1")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", st.Size())
	if st.Size() >= limit {
		t.Errorf("%d bytes, want less than %d", st.Size(), limit)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("not static")
		}
	}
}

func TestImportsAreCheap(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/hachi-run/hachi/cmd/containerd-shim-hachi-v1").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		first, _, _ := strings.Cut(pkg, "/")
		own := pkg == "github.com/hachi-run/hachi/shim/launch" || pkg == "github.com/hachi-run/hachi/cmd/containerd-shim-hachi-v1"
		if strings.Contains(first, ".") && !own {
			t.Errorf("%s is not of the standard library", pkg)
		}
		switch pkg {
		case "fmt", "reflect", "net", "flag", "encoding/json", "os/exec", "crypto/sha256":
			t.Errorf("%s costs too much size and start time", pkg)
		}
	}
}

// TestOwnTime compares with executing a program that does nothing, and looks at CPU time, because a busy
// machine stretches all others. The start of Go's runtime is the launcher's own.
func TestOwnTime(t *testing.T) {
	const limit = 2 * time.Millisecond
	r := newRig(t)
	r.bundle("one", `{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}`)
	params := r.params("one")
	r.start("one")
	r.servers(1)
	best := func(argv ...string) time.Duration {
		least := time.Hour
		for range 40 {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Dir, cmd.Env, cmd.Stdin = filepath.Join(r.dir, "one"), r.env, bytes.NewReader(params)
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			least = min(least, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
		return least
	}
	nothing := best("/bin/true")
	for _, action := range []string{"start", "delete"} {
		own := best(append([]string{r.launcher}, arguments("one", action)...)...) - nothing
		t.Logf("%s: %v", action, own)
		if own >= limit {
			t.Errorf("%s takes %v of CPU time, want less than %v", action, own, limit)
		}
	}
}
