package launch

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseSpec(t *testing.T) {
	for _, c := range []struct {
		name, config string
		want         spec
	}{
		{"empty", `{}`, spec{}},
		{"pod", `{"annotations":{"a":"b","io.kubernetes.cri.sandbox-id":"pod"},"linux":{"namespaces":[{"type":"network","path":"/n"},{"type":"ipc"}]}}`,
			spec{"pod", []namespace{{"network", "/n"}, {"ipc", ""}}}},
		{"a value that spells the key", `{"annotations":{"note":"\",\"io.kubernetes.cri.sandbox-id\":\"evil"}}`, spec{}},
		{"a value that is the key", `{"annotations":{"a":"io.kubernetes.cri.sandbox-id","b":"evil"}}`, spec{}},
		{"another object", `{"process":{"annotations":{"io.kubernetes.cri.sandbox-id":"evil"}},"x":{"linux":{"namespaces":[{"type":"network"}]}}}`, spec{}},
		{"an environment variable", `{"process":{"env":["X=\"io.kubernetes.cri.sandbox-id\":\"evil\""]}}`, spec{}},
		{"escapes", `{"\u0061nnotations":{"io.kubernetes.cri.sandbox\u002did":"p\u006fd"}}`, spec{sandbox: "pod"}},
		{"nulls", `{"annotations":null,"linux":{"namespaces":null,"x":null}}`, spec{}},
		{"last one counts", `{"annotations":{"io.kubernetes.cri.sandbox-id":"a","io.kubernetes.cri.sandbox-id":"b"}}`, spec{sandbox: "b"}},
		{"white space", " {\n\t\"linux\" : { \"namespaces\" : [ { \"path\" : \"\" , \"type\" : \"uts\" } ] }\r\n} ", spec{spaces: []namespace{{"uts", ""}}}},
		{"numbers and words", `{"a":[0,-1,1.5e+3,2E-1,true,false,null],"annotations":{}}`, spec{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseSpec([]byte(c.config))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, *got, cmp.AllowUnexported(spec{}, namespace{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSpecRefuses(t *testing.T) {
	for config, want := range map[string]string{
		``:                                   "offset 0: document ends too early",
		`{"a":1`:                             "offset 6: document ends too early",
		`{"a":01}`:                           "offset 6: not a JSON value",
		`{"a" 1}`:                            "offset 5: not a JSON value",
		`{} x`:                               "offset 3: something follows the document",
		`[]`:                                 "offset 0: value has another type than expected",
		`{"annotations":"x"}`:                "offset 15: value has another type than expected",
		"{\"a\":\"\n\"}":                     "offset 6: bad string",
		`{"a":"\x"}`:                         "offset 8: bad string",
		`{"a":"\u12"}`:                       "offset 8: bad string",
		strings.Repeat("[", 10000):           "value has another type than expected",
		`{"a":` + strings.Repeat("[", 10000): "nested too deeply",
	} {
		if _, err := parseSpec([]byte(config)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %s", config, err, want)
		}
	}
}

func TestGroup(t *testing.T) {
	for _, c := range []struct {
		spec *spec
		want string
	}{{nil, "web"}, {&spec{}, "web"}, {&spec{sandbox: "web"}, "web"}, {&spec{sandbox: "pod"}, "pod"}} {
		if got, err := group("web", c.spec); got != c.want || err != nil {
			t.Errorf("%+v: got %q, %v, want %q", c.spec, got, err, c.want)
		}
	}
	_, err := group("web", &spec{sandbox: "../../etc"})
	want := `find the pod of web: annotation io.kubernetes.cri.sandbox-id="../../etc": not an identifier`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestBrokenSpecIsReported(t *testing.T) {
	r := newRig(t)
	r.bundle("one", `{"annotations":`)
	if got, want := r.refused("one"), "hachi: read spec: config.json: offset 15: document ends too early"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// A bundle of sandboxer="shim" has no config.json; the server makes the namespaces later.
func TestSandboxWithoutSpec(t *testing.T) {
	r := newRig(t)
	r.bundle("pod", "")
	r.start("pod")
	if got := r.servers(1)[0].Args[4]; got != "pod" {
		t.Errorf("-id %s, want pod", got)
	}
}

// FuzzSpec compares with encoding/json, which containerd and runc read the same file with.
func FuzzSpec(f *testing.F) {
	full, err := json.Marshal(specs.Spec{Version: "1.2.0", Annotations: map[string]string{sandboxAnnotation: "pod", "x": "\u2028<&>\"\\\x00\x7f😀"},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "network", Path: "/n"}, {Type: "ipc"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	for _, s := range []string{`{}`, `null`, `{"a":[1,2.5e-3,"\ud83d\ude00\ud83d\n",true]}`, `{"annotations":{"` + sandboxAnnotation + `":null}}`, `{"linux":{"namespaces":[null,{}]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseSpec(b)
		// Maps and not structs, because struct keys match in any case.
		var top, linux map[string]json.RawMessage
		var notes map[string]json.RawMessage
		var spaces []map[string]json.RawMessage
		reference := func() error {
			if err := json.Unmarshal(b, &top); err != nil {
				return err
			}
			if raw, ok := top["annotations"]; ok {
				if err := json.Unmarshal(raw, &notes); err != nil {
					return err
				}
			}
			if raw, ok := top["linux"]; ok {
				if err := json.Unmarshal(raw, &linux); err != nil {
					return err
				}
			}
			if raw, ok := linux["namespaces"]; ok {
				return json.Unmarshal(raw, &spaces)
			}
			return nil
		}
		if err != nil {
			return // stricter is fine
		}
		if !json.Valid(b) {
			t.Fatalf("accepted %q", b)
		}
		if err := reference(); err != nil {
			t.Fatalf("accepted %q: %v", b, err)
		}
		for _, word := range []string{"annotations", "linux", "namespaces", sandboxAnnotation} {
			if bytes.Count(b, []byte(word)) > 1 {
				return // repeated keys merge differently in the reference
			}
		}
		if bytes.ContainsRune(b, '\\') || !utf8.Valid(b) {
			return // the same, spelt differently
		}
		var sandbox string
		if raw := notes[sandboxAnnotation]; raw != nil {
			if err := json.Unmarshal(raw, &sandbox); err != nil {
				t.Fatalf("accepted %q: %v", b, err)
			}
		}
		if got.sandbox != sandbox || len(got.spaces) != len(spaces) {
			t.Fatalf("%q: got %+v, want sandbox %q and %d namespaces", b, got, sandbox, len(spaces))
		}
	})
}

// FuzzText compares the reading of one string.
func FuzzText(f *testing.F) {
	for _, s := range []string{`"a"`, `"\ud83d\ude00"`, `"\ud83d\ud83d"`, `"\ud83dx"`, `"\ude00"`, "\"\xff\xc0\"", `"\/\b\f\n\r\t\"\\"`, `"\u0000"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &jsonReader{b: b}
		got, err := r.text()
		if err == nil {
			err = r.end()
		}
		var want string
		if json.Unmarshal(b, &want) != nil || strings.TrimSpace(string(b)) == "null" {
			if err == nil {
				t.Fatalf("accepted %q", b)
			}
			return
		}
		if err != nil || got != want {
			t.Fatalf("%q: got %q, %v, want %q", b, got, err, want)
		}
	})
}
