package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestAgent serves an empty node until its context ends, as it does until SIGTERM.
func TestAgent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"agent", "--listen", "127.0.0.1:0", "--ledger", dir, "--pins", dir}, strings.NewReader(""), &bytes.Buffer{}, w)
		w.Close()
	}()
	address := make(chan string, 1)
	last := make(chan string, 1)
	go func() {
		line := ""
		for s := bufio.NewScanner(log); s.Scan(); {
			line = s.Text()
			if m := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(line); m != nil {
				address <- m[1]
			}
		}
		last <- line
	}()
	var url string
	select {
	case a := <-address:
		url = "http://" + a
	case <-time.After(20 * time.Second):
		t.Fatal("it does not say where it serves")
	}
	for path, want := range map[string]string{
		"/metrics": "hachi_accounting_loaded 0", "/healthz": "ok", "/flows": "",
	} {
		reply, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if err != nil || reply.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v: %s", path, reply.Status, err, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if code := <-done; code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if line := <-last; !strings.Contains(line, "msg=stopped") {
		t.Errorf("its last word is %q", line)
	}
}

func TestAgentAddressInUse(t *testing.T) {
	h := start(t)
	code, _, stderr := h.run(t, "agent", "--listen", "192.0.2.1:9464", "--ledger", h.dir, "--pins", h.dir)
	if code != exitFailed || !strings.Contains(stderr, "192.0.2.1:9464") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
