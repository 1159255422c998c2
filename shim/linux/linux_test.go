package linux_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/leak"
	"github.com/hachi-run/hachi/shim/linux"
	"github.com/hachi-run/hachi/shim/reap"
	"github.com/hachi-run/hachi/shim/taskpb"
)

const patience = 10 * time.Second

// start starts a real hachi-linux; what it dies of is sent to died.
func start(t *testing.T) (s *linux.Service, died <-chan error) {
	t.Helper()
	testenv.NeedRoot(t)
	reaper := reap.New()
	t.Cleanup(reaper.Close)
	deaths := make(chan error, 1)
	s, err := linux.New(linux.Options{
		Binary: filepath.Join(testenv.Bin(t), "hachi-linux"), Start: reaper.Start,
		Namespace: "linuxtest", Events: filepath.Join(t.TempDir(), "nobody"), Died: func(err error) { deaths <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, deaths
}

func end(t *testing.T, s *linux.Service) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return s.Close(ctx)
}

// ask asks for a container that nobody has created.
func ask(t *testing.T, s *linux.Service) error {
	_, err := s.State(t.Context(), &taskpb.ProcessRequest{Id: "none"})
	return err
}

func children() []leak.Process {
	return slices.DeleteFunc(leak.Processes(), func(p leak.Process) bool { return p.Parent != os.Getpid() })
}

func TestServiceAnswersUntilItIsClosed(t *testing.T) {
	s, died := start(t)
	if err := ask(t, s); !errdefs.IsNotFound(err) {
		t.Errorf("state of no container: %v, want not found", err)
	}
	if err := end(t, s); err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case err := <-died:
		t.Errorf("an end that was asked for was told as a death: %v", err)
	default:
	}
	if left := children(); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

func TestDeathOfTheServiceIsTold(t *testing.T) {
	s, died := start(t)
	for _, p := range children() {
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-died:
		if err == nil || !strings.Contains(err.Error(), "hachi-linux ended with status 137") {
			t.Errorf("it died of %v", err)
		}
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
	if err := ask(t, s); err == nil {
		t.Error("a service that is gone has answered")
	}
	if err := end(t, s); err == nil {
		t.Error("close says nothing of the death")
	}
}

func TestServiceThatIsNotThere(t *testing.T) {
	reaper := reap.New()
	defer reaper.Close()
	_, err := linux.New(linux.Options{Binary: filepath.Join(t.TempDir(), "hachi-linux"), Start: reaper.Start})
	if err == nil || !strings.Contains(err.Error(), "no such file") || !strings.Contains(err.Error(), "install all programs") {
		t.Errorf("got %v", err)
	}
}
