package launch

import (
	"bytes"
	"errors"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"
)

func TestProtoBounds(t *testing.T) {
	for name, m := range map[string][]byte{
		"length beyond the end":      {0x0a, 5, 'a'},
		"enormous length":            {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"no length":                  {0x0a},
		"endless varint":             bytes.Repeat([]byte{0xff}, 20),
		"varint beyond 64 bits":      {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2},
		"half a fixed64":             {0x09, 1, 2, 3},
		"half a fixed32":             {0x0d, 1},
		"group":                      {0x0b, 0x0c},
		"field zero":                 {0x02, 0},
		"wire type six":              {0x0e},
		"field number out of bounds": {0xf8, 0xff, 0xff, 0xff, 0xff, 1, 0},
	} {
		if p, err := parseParams(m); err == nil {
			t.Errorf("%s: accepted as %+v", name, p)
		}
		if kind, _ := parseAny(m); kind != "" {
			t.Errorf("%s: accepted as an Any of %s", name, kind)
		}
	}
}

// FuzzParams compares with containerd's own type.
func FuzzParams(f *testing.F) {
	dir := "/run/s"
	b, err := proto.Marshal(&bootapi.BootstrapParams{InstanceID: "web", Namespace: "k8s.io", LogLevel: bootapi.LogLevel_LOG_LEVEL_DEBUG,
		ContainerdGrpcAddress: "/c", ContainerdTtrpcAddress: "/t", SocketDir: &dir, Extensions: []*bootapi.Extension{{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4, 0x18, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseParams(b)
		var want bootapi.BootstrapParams
		if proto.Unmarshal(b, &want) != nil {
			return // also for text that is not UTF-8, which start refuses as an identifier
		}
		if err != nil {
			if errors.Is(err, errProtoField) {
				return // groups
			}
			t.Fatalf("refused %x: %v", b, err)
		}
		if got.id != want.InstanceID || got.namespace != want.Namespace || got.address != want.ContainerdGrpcAddress ||
			got.ttrpcAddress != want.ContainerdTtrpcAddress || got.socketDir != want.GetSocketDir() || got.debug != (want.LogLevel <= bootapi.LogLevel_LOG_LEVEL_DEBUG) {
			t.Fatalf("%x: got %+v, want %v", b, got, &want)
		}
	})
}
