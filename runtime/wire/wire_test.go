package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/runtime/jail"
)

func TestMessagesSurviveTheWire(t *testing.T) {
	mask := uint32(0o27)
	messages := []*Message{
		{Config: &Config{
			Args: []string{"/app.wasm", "", "ü\x00 \n"}, Env: []string{"A=1", "B="}, Cwd: "/srv",
			Module:    &Module{Name: "app.wasm", FD: 4, Artifact: 5},
			Preopens:  []Preopen{{Guest: "/", Path: "/"}, {Guest: "/data", Path: "/mnt", ReadOnly: true}},
			Listeners: []Listener{{FD: 6, Name: "tcp-8080"}},
			Memory:    64 << 20,
			Jail:      jail.Config{Root: &jail.Root{Path: "/r", Mounts: []jail.Mount{{Target: "/d", Type: "bind", Source: "/s", Options: []string{"ro"}}}}, User: &jail.User{UID: 1, GID: 2, Groups: []uint32{3}, Umask: &mask}},
		}},
		{Ready: &Ready{}}, {Start: &Start{}}, {Stop: &Stop{Signal: 15, Grace: 1500}}, {Limit: &Limit{Memory: 1}},
		{Failed: &Failed{Error: "why"}}, {Exit: &Exit{Code: 137, OOM: true}},
	}
	var b bytes.Buffer
	for _, m := range messages {
		if err := Write(&b, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range messages {
		got, err := Read(&b, MaxFrame)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("message changed on its way (-sent +received):\n%s", diff)
		}
	}
	if _, err := Read(&b, MaxFrame); err != io.EOF {
		t.Errorf("read after the last frame: %v, want io.EOF", err)
	}
}

func TestReadRefusesBadFrames(t *testing.T) {
	frame := func(n uint32, body string) string {
		return string(binary.LittleEndian.AppendUint32(nil, n)) + body
	}
	for name, c := range map[string]struct{ in, want string }{
		"too long":       {frame(1<<20+1, "{}"), "1048577 bytes exceed 1048576"},
		"no body":        {frame(2, ""), "EOF"},
		"half a length":  {"\x01\x00", "unexpected EOF"},
		"half a body":    {frame(10, "{}"), "unexpected EOF"},
		"not JSON":       {frame(2, "{["), "invalid"},
		"wrong type":     {frame(12, `{"stop":true}`[:12]), "unexpected end"},
		"another object": {frame(2, "[]"), "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.in), 1<<20)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, io.EOF) && name != "no body" {
				t.Errorf("got %v, want an error about %q", err, c.want)
			}
		})
	}
}

func TestWriteRefusesWhatReadWouldNotTake(t *testing.T) {
	err := Write(io.Discard, &Message{Config: &Config{Args: []string{strings.Repeat("a", MaxFrame)}}})
	if err == nil || !strings.Contains(err.Error(), "shorten args") {
		t.Errorf("got %v, want advice to shorten args", err)
	}
}

// A hostile engine can say anything; it must not take the shim's memory or its life.
func FuzzRead(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00{}"))
	f.Add([]byte("\xff\xff\xff\xff{}"))
	f.Add([]byte("\x1b\x00\x00\x00{\"exit\":{\"code\":4294967295}}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Read(bytes.NewReader(in), 1<<12)
		if (m == nil) == (err == nil) {
			t.Fatalf("Read gave %v and %v", m, err)
		}
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Write(&b, m); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
