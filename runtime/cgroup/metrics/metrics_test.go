package metrics_test

import (
	"reflect"
	"strings"
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

func pairs() map[metrics.Message]proto.Message {
	return map[metrics.Message]proto.Message{new(metrics.V1): new(v1.Metrics), new(metrics.V2): new(v2.Metrics)}
}

// What our messages say in every field, containerd's must read in the field of the same name.
func TestContainerdReadsEveryField(t *testing.T) {
	for ours, theirs := range pairs() {
		count := 0
		fill(t, reflect.ValueOf(ours).Elem(), &count)
		if count < 60 {
			t.Errorf("%T has %d fields", ours, count)
		}
		body, err := ours.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(body, theirs); err != nil {
			t.Fatal(err)
		}
		compare(t, ours.TypeURL(), reflect.ValueOf(ours).Elem(), theirs.ProtoReflect())
		if url, err := typeurl.TypeURL(theirs); err != nil || url != ours.TypeURL() {
			t.Errorf("%T is called %s; containerd calls it %s, %v", ours, ours.TypeURL(), url, err)
		}
	}
}

// fill gives each field of a message a number of its own, and each list two entries.
func fill(t *testing.T, v reflect.Value, count *int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), count)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i), count)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), count)
		fill(t, v.Index(1), count)
	case reflect.Uint64:
		*count++
		v.SetUint(uint64(*count) << 40)
	case reflect.Float64:
		*count++
		v.SetFloat(float64(*count) + .25)
	case reflect.String:
		*count++
		v.SetString(string(rune('a' + *count)))
	default:
		t.Fatalf("a field of type %v", v.Type())
	}
}

func compare(t *testing.T, at string, ours reflect.Value, theirs protoreflect.Message) {
	if unknown := theirs.GetUnknown(); len(unknown) > 0 {
		t.Errorf("%s: containerd does not know %x", at, unknown)
	}
	for i := range ours.NumField() {
		field := ours.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		// Their Go names are edited by hand; the tag has the message's own.
		name := protoName(t, field.Tag.Get("protobuf"))
		its := theirs.Descriptor().Fields().ByName(name)
		if its == nil {
			t.Errorf("%s.%s: containerd has no such field", at, name)
			continue
		}
		value, path := theirs.Get(its), at+"."+string(name)
		mine := ours.Field(i)
		if !its.IsList() {
			compareValue(t, path, mine, value)
			continue
		}
		list := value.List()
		if list.Len() != mine.Len() {
			t.Errorf("%s: containerd reads %d entries of %d", path, list.Len(), mine.Len())
			continue
		}
		for j := range list.Len() {
			compareValue(t, path, mine.Index(j), list.Get(j))
		}
	}
}

// protoName is the field's name in the tag of its Go field.
func protoName(t *testing.T, tag string) protoreflect.Name {
	for part := range strings.SplitSeq(tag, ",") {
		if name, ok := strings.CutPrefix(part, "name="); ok {
			return protoreflect.Name(name)
		}
	}
	t.Fatalf("a field without a name in %q", tag)
	return ""
}

func compareValue(t *testing.T, at string, ours reflect.Value, theirs protoreflect.Value) {
	if ours.Kind() == reflect.Pointer {
		compare(t, at, ours.Elem(), theirs.Message())
		return
	}
	if ours.Interface() != theirs.Interface() {
		t.Errorf("%s: ours is %v, containerd reads %v", at, ours, theirs)
	}
}

func TestAppendNetwork(t *testing.T) {
	for ours, theirs := range pairs() {
		ours.CountOOM()
		ours.CountOOM()
		ours.AddNetwork(&metrics.Network{Name: "lo", TxPackets: 1})
		body, err := ours.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		body, err = metrics.AppendNetwork(body, ours.TypeURL(), &metrics.Network{Name: "eth0", RxBytes: 300, TxDropped: 2})
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(body, theirs); err != nil {
			t.Fatal(err)
		}
		var want proto.Message = &v1.Metrics{
			MemoryOomControl: &v1.MemoryOomControl{OomKill: 1},
			Network:          []*v1.NetworkStat{{Name: "lo", TxPackets: 1}, {Name: "eth0", RxBytes: 300, TxDropped: 2}},
		}
		if _, ok := theirs.(*v2.Metrics); ok {
			want = &v2.Metrics{
				MemoryEvents: &v2.MemoryEvents{OomKill: 1},
				Network:      []*v2.NetworkStat{{Name: "lo", TxPackets: 1}, {Name: "eth0", RxBytes: 300, TxDropped: 2}},
			}
		}
		if !proto.Equal(theirs, want) {
			t.Errorf("got  %v\nwant %v", theirs, want)
		}
	}
	if _, err := metrics.AppendNetwork(nil, "windows.Statistics", new(metrics.Network)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("another type: %v; want invalid argument", err)
	}
}

// A count that is there already stays.
func TestCountOOMIsAtLeastOne(t *testing.T) {
	old, unified := &metrics.V1{MemoryOomControl: &metrics.V1OOMControl{OomKill: 3}}, &metrics.V2{MemoryEvents: &metrics.V2MemoryEvents{OomKill: 3}}
	old.CountOOM()
	unified.CountOOM()
	if old.MemoryOomControl.OomKill != 3 || unified.MemoryEvents.OomKill != 3 {
		t.Errorf("got %d and %d; want 3", old.MemoryOomControl.OomKill, unified.MemoryEvents.OomKill)
	}
}
