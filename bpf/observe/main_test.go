package observe_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/internal/testenv/bpfenv"
)

// Other processes of a test are the test binary in a role: the variable's value, with the role's arguments after it.
const roleEnv = "HACHI_TEST_ROLE"

var roles = map[string]func(args []string) error{
	// owner attaches, says so, and goes on doing it until it is killed.
	"owner": func(args []string) error {
		o, err := observe.Open(context.Background(), observe.Options{Root: args[0]})
		if err != nil {
			return err
		}
		for said := false; ; {
			if _, err := o.Attach(args[1]); err != nil {
				return err
			}
			if !said {
				said = true
				fmt.Println("attached")
			}
		}
	},
	// loader loads.
	"loader": func(args []string) error { return observe.Load(context.Background(), args[0]) },
	// opener opens, and says what came of it.
	"opener": func(args []string) error {
		_, err := observe.Open(context.Background(), observe.Options{Root: args[0]})
		fmt.Printf("%t %v\n", errors.Is(err, observe.ErrUnsupported), err)
		return nil
	},
}

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(roleEnv)); len(words) > 0 {
		if err := roles[words[0]](words[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(bpfenv.Main(m))
}

func inRole(words ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+strings.Join(words, " "))
	cmd.Stderr = os.Stderr
	return cmd
}

// open returns an observer on the package's bpffs.
func open(t testing.TB) *observe.Observer {
	t.Helper()
	return openAt(t, rootOf(t))
}

func rootOf(t testing.TB) string { return filepath.Join(bpfenv.SharedBPFFS(t), "hachi") }

func openAt(t testing.TB, root string) *observe.Observer {
	t.Helper()
	o, err := observe.Open(t.Context(), observe.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// attach observes the pod until the test ends.
func attach(t testing.TB, o *observe.Observer, p *bpfenv.Pod) {
	t.Helper()
	id, err := o.Attach(p.Cgroup)
	if err != nil {
		t.Fatal(err)
	}
	if id != p.ID {
		t.Fatalf("attached cgroup %d, want %d", id, p.ID)
	}
	t.Cleanup(func() {
		if _, err := o.Detach(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}
