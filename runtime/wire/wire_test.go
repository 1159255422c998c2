package wire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
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
			Module:    &Module{Name: "app.wasm", Compiled: true},
			Preopens:  []Preopen{{Guest: "/", Path: "/"}, {Guest: "/data", Path: "/mnt", ReadOnly: true}},
			Listeners: []Listener{{Address: ":8080", Name: "tcp-8080"}},
			Memory:    64 << 20,
			Jail:      jail.Config{Root: &jail.Root{Path: "/r", Mounts: []jail.Mount{{Target: "/d", Type: "bind", Source: "/s", Options: []string{"ro"}}}}, User: &jail.User{UID: 1, GID: 2, Groups: []uint32{3}, Umask: &mask}},
			Join:      true,
		}},
		{Ready: &Ready{}}, {Start: &Start{}}, {Stop: &Stop{Signal: 15, Grace: 1500}}, {Limit: &Limit{Memory: 1}},
		{Failed: &Failed{Error: "why", Listen: true}}, {Limited: &Limited{}}, {Exit: &Exit{Code: 137, OOM: true}},
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
	for name, c := range map[string]struct{ in, want string }{
		"too long":                {"\x01\x00\x10\x00{}", "1048577 bytes exceed 1048576"},
		"no body":                 {"\x02\x00\x00\x00", "EOF"},
		"half a length":           {"\x01\x00", "unexpected EOF"},
		"half a body":             {"\x0a\x00\x00\x00{}", "unexpected EOF"},
		"empty":                   {string(frame("")), "malformed"},
		"not all of a message":    {string(frame("\x00\x00\x00")), "malformed"},
		"more than a message":     {string(frame("\x00\x00\x00\x00\x00\x00\x00\x00\x00")), "malformed"},
		"neither there nor not":   {string(frame("\x02")), "malformed"},
		"a number without an end": {string(frame("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")), "malformed"},
		"a list of everything":    {string(frame("\x01\xff\xff\xff\xff\x0f")), "malformed"},
		"a text of everything":    {string(frame("\x01\x01\xff\xff\xff\xff\x0fx")), "malformed"},
		"a code that is none":     {string(frame("\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\x01\x00")), "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.in), 1<<20)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, io.EOF) && name != "no body" {
				t.Errorf("got %v, want an error about %q", err, c.want)
			}
		})
	}
}

// TestEveryFieldIsOnTheWire fails when a field is added and the codec does not know it.
func TestEveryFieldIsOnTheWire(t *testing.T) {
	want := new(Message)
	fill(reflect.ValueOf(want).Elem(), new(uint64))
	var b bytes.Buffer
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b, MaxFrame)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("not all of it arrived (-sent +received):\n%s", diff)
	}
}

// fill gives every field a value that no other has.
func fill(v reflect.Value, n *uint64) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString(strings.Repeat("x", int(*n)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-int64(*n))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(*n)
	default:
		panic(v.Kind())
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
	for _, m := range []*Message{{Exit: &Exit{Code: 1<<32 - 1}}, {Failed: &Failed{Error: "why"}}, {Config: &Config{Args: []string{"a", "b"}}}} {
		b, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\xff\xff\xff\xff{}"))
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
		if again, err := Read(&b, MaxFrame); err != nil || !cmp.Equal(m, again) {
			t.Fatalf("read %+v, and what was written of it as %+v, %v", m, again, err)
		}
	})
}
