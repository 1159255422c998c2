package stdio

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/internal/testenv/guest"
)

func TestFile(t *testing.T) {
	spotless(t)
	path := filepath.Join(t.TempDir(), "new", "log 1")
	uri := (&url.URL{Scheme: "file", Path: path}).String()
	for range 2 {
		s := open(t, Config{Stdout: uri, Stderr: uri})
		wait(t, process(t, s, "echo out; echo err >&2"), s)
		s.Close()
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "out\nerr\nout\nerr\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// loggerProgram is testdata/logger, compiled once.
var loggerProgram = sync.OnceValues(func() (string, error) {
	out := filepath.Join(work, "logger")
	return out, guest.Go(guest.Linux, "testdata/logger", out)
})

func loggerURI(t *testing.T, scheme, how string) (uri, out string) {
	t.Helper()
	program, err := loggerProgram()
	if err != nil {
		t.Fatal(err)
	}
	out = filepath.Join(t.TempDir(), "out")
	u := url.URL{Scheme: scheme, Path: program, RawQuery: url.Values{"out": {out}, "how": {how}}.Encode()}
	return u.String(), out
}

func TestLogger(t *testing.T) {
	for name, tt := range map[string]struct {
		scheme, how string
		both        bool
		want        string
	}{
		"both streams": {"binary", "", true, `204800 "out\n` + strings.Repeat(`\x00`, 36) + `" 4 "err\n"`},
		"one stream":   {"binary", "", false, `204800 "out\n` + strings.Repeat(`\x00`, 36) + `" 0 ""`},
		"version 2":    {"binary-v2", "says ready", true, `204800 "out\n` + strings.Repeat(`\x00`, 36) + `" 4 "err\n"`},
	} {
		t.Run(name, func(t *testing.T) {
			uri, out := loggerURI(t, tt.scheme, tt.how)
			spotless(t)
			c := Config{Stdout: uri, ID: "box", Namespace: "space"}
			if tt.both {
				c.Stderr = uri
			}
			s := open(t, c)
			wait(t, process(t, s, "echo out; echo err >&2; head -c 204796 /dev/zero"), s)
			s.Close()
			got, err := os.ReadFile(out)
			want := "CONTAINER_ID=box CONTAINER_NAMESPACE=space\n" + tt.want + "\n"
			if err != nil || string(got) != want {
				t.Errorf("the program has %q, %v; want %q", got, err, want)
			}
		})
	}
}

func TestTwoLoggers(t *testing.T) {
	one, outOne := loggerURI(t, "binary", "")
	two, outTwo := loggerURI(t, "binary", "")
	spotless(t)
	s := open(t, Config{Stdout: one, Stderr: two})
	wait(t, process(t, s, "echo out; echo err >&2"), s)
	s.Close()
	for path, want := range map[string]string{outOne: `4 "out\n" 0 ""`, outTwo: `4 "err\n" 0 ""`} {
		if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%q, %v; want %s", got, err, want)
		}
	}
}

func TestLoggerNotReady(t *testing.T) {
	uri, _ := loggerURI(t, "binary-v2", "dies")
	hanging, _ := loggerURI(t, "binary", "never ready")
	t.Run("dies", func(t *testing.T) {
		spotless(t)
		if _, err := Open(context.Background(), Config{Stdout: uri}); err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		spotless(t)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
		if _, err := Open(ctx, Config{Stdout: hanging}); !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
	})
}

func TestArguments(t *testing.T) {
	got := arguments("b=2&a=x%20y&flag&&c=1=2&bad=%zz")
	want := []string{"b", "2", "a", "x y", "flag", "", "c", "1=2", "bad", "%zz"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
