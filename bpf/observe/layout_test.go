package observe_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/bpf/account"
	"github.com/hachi-run/hachi/bpf/flow"
	"github.com/hachi-run/hachi/bpf/pin"
)

var update = flag.Bool("update", false, "write the golden files")

// What is pinned must fit the programs of every build of one layout version.
func TestLayoutHasItsVersion(t *testing.T) {
	var lines []string
	for _, set := range []pin.Set{account.Set, flow.Set} {
		spec, err := set.Spec()
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range spec.Maps {
			if !strings.HasPrefix(name, ".") {
				lines = append(lines, fmt.Sprintf("map %s: %v, key %d, value %d, entries %d, flags %#x\n", name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags))
				if value, ok := m.Value.(*btf.Struct); ok {
					fields, err := new(btf.GoFormatter).TypeDeclaration("of "+name, value)
					if err != nil {
						t.Fatal(err)
					}
					lines = append(lines, fields+"\n")
				}
			}
		}
		for _, h := range set.Hooks {
			lines = append(lines, fmt.Sprintf("link %s: %s\n", h.Name, strings.Join(storages(spec, h.Program), ", ")))
		}
	}
	slices.Sort(lines)
	got := strings.Join(slices.Compact(lines), "")
	golden := filepath.Join("testdata", "layout-"+pin.Version+".txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v (a new pin.Version: run this test with -update)", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("the layout of version %s changed, so pin.Version must: was (-), is (+):\n%s", pin.Version, d)
	}
}

// storages are the cgroup storages that a program uses.
func storages(spec *ebpf.CollectionSpec, program string) (names []string) {
	for _, ins := range spec.Programs[program].Instructions {
		if m := spec.Maps[ins.Reference()]; m != nil && (m.Type == ebpf.CGroupStorage || m.Type == ebpf.PerCPUCGroupStorage) && !slices.Contains(names, ins.Reference()) {
			names = append(names, ins.Reference())
		}
	}
	slices.Sort(names)
	return names
}
