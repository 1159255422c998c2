package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRunHabits: what people type for docker run is taken where it means something, and else gets an answer.
func TestRunHabits(t *testing.T) {
	h := start(t)
	h.write(t, "d/f", nil)
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"--rm -it --init --read-only --name x --network host nowhere.wasm", exitRun, "nowhere.wasm"},
		{"-d app.wasm", exitRun, "--detach: hachi run stays in the foreground"},
		{"-P app.wasm", exitRun, "-p PORT"},
		{"-u 1000 app.wasm", exitRun, "runs as you"},
		{"--network none app.wasm", exitRun, "this machine's network"},
		{"--entrypoint x app.wasm", exitRun, "the module is the program"},
		{"--timeout soon app.wasm", exitRun, "not a time"},
		{"--env-file nowhere.env app.wasm", exitRun, "nowhere.env"},
		{"-v d app.wasm", exitRun, "not HOST:GUEST"},
		{"-v d: app.wasm", exitRun, "names nothing"},
		{"-v d:/d:rx app.wasm", exitRun, "not HOST:GUEST"},
		{"--mount type=tmpfs,target=/t app.wasm", exitRun, "type tmpfs is not supported"},
		{"alpine:3 sh", exitRun, "ctr run"},
		{"d", exitRun, "a directory, not a module"},
	} {
		code, _, stderr := h.run(t, append([]string{"run"}, strings.Fields(tc.args)...)...)
		if code != tc.code || !strings.Contains(stderr, tc.says) {
			t.Errorf("hachi run %s: got exit code %d and %q; want %d and %q", tc.args, code, stderr, tc.code, tc.says)
		}
	}
}

func TestRunEnvironment(t *testing.T) {
	h := start(t)
	t.Setenv("HERE", "from here")
	h.write(t, "a.env", []byte("# comment\n\nA=1\n  B = 2 \nHERE\nMISSING\n"))
	if _, err := environ([]string{"a.env"}, nil); err == nil || !strings.Contains(err.Error(), "a.env:4") {
		t.Errorf("a name with a space: %v", err)
	}
	h.write(t, "a.env", []byte("A=1\nB= 2=3\nHERE\nMISSING\n"))
	got, err := environ([]string{"a.env"}, []string{"A=4", "C="})
	if want := []string{"B= 2=3", "HERE=from here", "A=4", "C="}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestRunVolumes(t *testing.T) {
	h := start(t)
	h.write(t, "d/f", nil)
	got, err := preopens([]string{"d:/d/:ro,z", "./d:/e", "d:.:rw", "d:e/f"}, []string{"type=bind,source=d,target=/g,readonly"})
	if err != nil || len(got) != 5 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, want := range []struct {
		guest    string
		readOnly bool
	}{{"/d", true}, {"/e", false}, {".", false}, {"e/f", false}, {"/g", true}} {
		if got[i].Guest != want.guest || got[i].ReadOnly != want.readOnly || got[i].Path != h.dir+"/d" {
			t.Errorf("volume %d: got %+v, want %+v", i, got[i], want)
		}
	}
}

func TestRunVolumeOfOneFile(t *testing.T) {
	h := start(t)
	h.write(t, "d/f", nil)
	if err := os.Symlink("d/f", "link"); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"d/f:/etc/f", "link:/etc/f"} {
		got, err := preopens([]string{flag}, nil)
		if err != nil || len(got) != 1 || got[0].Path != h.dir+"/d/f" || got[0].Guest != "/etc/f" {
			t.Errorf("%s: %+v, %v", flag, got, err)
		}
	}
}

func TestRunTimeout(t *testing.T) {
	for flag, want := range map[string]time.Duration{"5s": 5 * time.Second, "2": 2 * time.Second, "0.5": 500 * time.Millisecond, "1m": time.Minute} {
		var s span
		if err := s.Set(flag); err != nil || time.Duration(s) != want {
			t.Errorf("--timeout %s: %v, %v; want %v", flag, time.Duration(s), err, want)
		}
	}
}
