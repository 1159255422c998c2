package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestNodeUsage(t *testing.T) {
	h := start(t)
	t.Setenv("NODE_NAME", "")
	for args, want := range map[string]struct {
		code int
		says string
	}{
		"node":                                                   {exitOK, ""},
		"node istall":                                            {exitUsage, `unknown command "istall" (did you mean install?)`},
		"node install extra":                                     {exitUsage, `unknown command "extra"`},
		"node install --restart hope":                            {exitUsage, "want auto, systemd or signal"},
		"node install --dir opt":                                 {exitUsage, "not an absolute path"},
		"node install --timeout long":                            {exitUsage, "invalid"},
		"node install --stay x --check 0":                        {exitUsage, "want more than nothing"},
		"node status --socket /nonexistent/c.sock":               {exitFailed, "name another with --socket"},
		"node uninstall --socket /nonexistent/c.sock":            {exitFailed, "name another with --socket"},
		"node uninstall --socket /nonexistent/c.sock --node bee": {exitFailed, "label node bee: find the API server: not in a pod"},
		"node withdraw":                                          {exitUsage, "--namespace and --daemonset: say which"},
		"node withdraw --namespace a --daemonset b --timeout 1s": {exitFailed, "not in a pod with a service account"},
	} {
		t.Setenv("KUBERNETES_SERVICE_HOST", "")
		code, _, said := h.run(t, strings.Fields(args)...)
		if code != want.code || !strings.Contains(said, want.says) {
			t.Errorf("hachi %s: exit code %d, %q; want %d, %q", args, code, said, want.code, want.says)
		}
	}
}

// get asks a staying process for its state.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

func TestStay(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, w := io.Pipe()
	s := &stay{listen: "127.0.0.1:0", every: 10 * time.Millisecond}
	checks := make(chan error)
	done := make(chan error, 1)
	go func() {
		done <- s.run(ctx, slog.New(slog.NewTextHandler(w, nil)), func(context.Context) error { return nil }, func(ctx context.Context) error {
			select {
			case err := <-checks:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		w.Close()
	}()
	line := make([]byte, 1000)
	n, err := log.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	m := regexp.MustCompile(`address=(\S+)`).FindSubmatch(line[:n])
	if m == nil {
		t.Fatalf("said %q", line[:n])
	}
	url := "http://" + string(m[1])
	if code, text := get(t, url+"/readyz"); code != 200 {
		t.Errorf("after the work: %d %s", code, text)
	}
	checks <- errors.New("the queen is missing")
	checks <- errors.New("the queen is missing") // the first has been noted by now
	if code, text := get(t, url+"/readyz"); code != 503 || !strings.Contains(text, "the queen is missing") {
		t.Errorf("after a failed check: %d %s", code, text)
	}
	if code, _ := get(t, url+"/healthz"); code != 200 {
		t.Errorf("health: %d", code)
	}
	checks <- nil
	checks <- nil
	if code, text := get(t, url+"/readyz"); code != 200 {
		t.Errorf("after a good check: %d %s", code, text)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopped: %v", err)
	}
}

func TestStayEndsWhenTheWorkFails(t *testing.T) {
	s := &stay{listen: "127.0.0.1:0", every: time.Second}
	cause := errors.New("no way")
	err := s.run(t.Context(), slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil)), func(context.Context) error { return cause }, nil)
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}
