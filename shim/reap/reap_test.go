package reap

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestStatus(t *testing.T) {
	r := New()
	defer r.Close()
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -9 $$": 137, "kill -TERM $$; sleep 9": 143} {
		wait, err := r.Start(exec.Command("sh", "-c", script))
		if err != nil {
			t.Fatal(err)
		}
		if got := wait(); got != want {
			t.Errorf("%q: status %d, want %d", script, got, want)
		}
	}
	if _, err := r.Start(exec.Command("/no/such/program")); err == nil {
		t.Error("a program that does not exist was started")
	}
}

// Each gets its own status and its whole output, however many end at once.
func TestManyAtOnce(t *testing.T) {
	r := New()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			var out bytes.Buffer
			cmd := exec.Command("sh", "-c", `head -c 100000 /dev/zero; exit $0`, string(rune('0'+i%10)))
			cmd.Stdout = &out
			wait, err := r.Start(cmd)
			if err != nil {
				t.Error(err)
				return
			}
			if got := wait(); got != i%10 || out.Len() != 100000 {
				t.Errorf("child %d: status %d, %d bytes", i, got, out.Len())
			}
		})
	}
	all.Wait()
	r.mu.Lock()
	if len(r.children) != 0 {
		t.Errorf("%d children are still known", len(r.children))
	}
	r.mu.Unlock()
	r.Close()
}

func TestCloseLeavesNobodyWaiting(t *testing.T) {
	r := New()
	wait, err := r.Start(exec.Command("sh", "-c", "sleep 0.2; exit 4"))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if got := wait(); got != 4 {
		t.Errorf("status %d, want 4", got)
	}
}
