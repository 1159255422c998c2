package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hachi-run/hachi/bpf/observe"
	"github.com/hachi-run/hachi/shim/ledger"
)

// account shows what the kernel has counted of the service's n calls. A machine that cannot count is told so.
func (s *show) account(ctx context.Context, n uint64) error {
	if err := observe.Load(ctx, ""); errors.Is(err, observe.ErrUnsupported) {
		say(fmt.Sprintf("traffic is not counted: %v", err))
		return nil
	}
	if err := s.top(ctx, n); err != nil {
		return err
	}
	out, err := s.ask(ctx, "flows", "--once", "--namespace", s.namespace)
	if err != nil {
		return err
	}
	if !bytes.Contains(out, []byte(id)) {
		return fmt.Errorf("hachi flows: nothing of %s:\n%s", id, out)
	}
	fmt.Print(string(out))
	return nil
}

// top waits until the counts are complete, for closing takes the kernel a moment, and shows them.
func (s *show) top(ctx context.Context, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for ; ; time.Sleep(50 * time.Millisecond) {
		out, err := s.quiet(ctx, "top", "--once", "--json")
		if err != nil {
			return err
		}
		var all []ledger.Reading
		if err := json.Unmarshal(out, &all); err != nil {
			return fmt.Errorf("hachi top: %w:\n%s", err, out)
		}
		for _, r := range all {
			if r.Namespace != s.namespace || r.ID != id || r.ConnectionsAccepted < n || r.ConnectionsOpen > 0 {
				continue
			}
			if r.RxBytes == 0 || r.TxBytes == 0 || r.CPU == 0 || r.Memory == 0 {
				return fmt.Errorf("hachi top: a figure is missing:\n%s", out)
			}
			return s.print(r, "top", "--once", "--json")
		}
		if ctx.Err() != nil {
			return fmt.Errorf("hachi top: %d calls were made to %s:\n%s", n, id, out)
		}
	}
}

// print shows the service's object alone: the machine may run other containers.
func (s *show) print(r ledger.Reading, args ...string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("\n$ hachi %s\n%s\n", s.short(args), text)
	return nil
}

// ask runs hachi as an operator types it and returns what it printed.
func (s *show) ask(ctx context.Context, args ...string) ([]byte, error) {
	fmt.Printf("\n$ hachi %s\n", s.short(args))
	return s.quiet(ctx, args...)
}

func (s *show) quiet(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "hachi"), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("hachi %s: %w\n%s", args[0], err, &stderr)
	}
	return out, nil
}
