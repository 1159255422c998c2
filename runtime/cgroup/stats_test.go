package cgroup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/hachi-run/hachi/runtime/cgroup/metrics"
)

// filesV1 is what a kernel with everything says, and every number in it is different.
var filesV1 = map[string]string{
	"blkio.throttle.io_serviced":      "254:0 Read 11\n254:0 Write 12\n254:0 Total 23\n9:127 Read 13\nTotal 36\n",
	"blkio.throttle.io_service_bytes": "254:0 Read 110\n254:0 Discard 0\nTotal 110\n",
	"cpu.stat":                        "nr_periods 21\nnr_throttled 22\nthrottled_time 23\nnr_bursts 24\nburst_time 25\n",
	"cpuacct.usage":                   "31000000000\n",
	"cpuacct.usage_percpu":            "16000000000 15000000000 \n",
	"cpuacct.stat":                    "user 1700\nsystem 1400\n",
	"memory.oom_control":              "oom_kill_disable 1\nunder_oom 0\noom_kill 41\n",
	"memory.stat": "cache 51\nrss 52\nrss_huge 53\nshmem 1\nmapped_file 54\ndirty 55\nwriteback 56\nworkingset_refault_anon 2\nswap 3\n" +
		"pgpgin 57\npgpgout 58\npgfault 59\npgmajfault 60\ninactive_anon 61\nactive_anon 62\ninactive_file 63\nactive_file 64\nunevictable 65\n" +
		"hierarchical_memory_limit 66\nhierarchical_memsw_limit 9223372036854771712\ntotal_cache 67\ntotal_rss 68\ntotal_rss_huge 69\n" +
		"total_shmem 4\ntotal_mapped_file 70\ntotal_dirty 71\ntotal_writeback 72\ntotal_swap 5\ntotal_pgpgin 73\ntotal_pgpgout 74\n" +
		"total_pgfault 75\ntotal_pgmajfault 76\ntotal_inactive_anon 77\ntotal_active_anon -78\ntotal_inactive_file 79\n" +
		"total_active_file 80\ntotal_unevictable 81\n",
	"memory.usage_in_bytes": "91\n", "memory.max_usage_in_bytes": "92\n", "memory.failcnt": "93\n", "memory.limit_in_bytes": "94\n",
	"memory.memsw.usage_in_bytes": "95\n", "memory.memsw.max_usage_in_bytes": "96\n", "memory.memsw.failcnt": "97\n", "memory.memsw.limit_in_bytes": "98\n",
	"memory.kmem.usage_in_bytes": "99\n", "memory.kmem.max_usage_in_bytes": "100\n", "memory.kmem.failcnt": "101\n", "memory.kmem.limit_in_bytes": "102\n",
	"memory.kmem.tcp.usage_in_bytes": "103\n", "memory.kmem.tcp.max_usage_in_bytes": "104\n", "memory.kmem.tcp.failcnt": "105\n", "memory.kmem.tcp.limit_in_bytes": "106\n",
	"pids.current": "111\n", "pids.max": "112\n",
}

var filesV2 = map[string]string{
	"cpu.stat":     "usage_usec 11\nuser_usec 12\nsystem_usec 13\nnice_usec 1\nnr_periods 14\nnr_throttled 15\nthrottled_usec 16\nnr_bursts 17\nburst_usec 18\n",
	"cpu.pressure": "some avg10=1.25 avg60=2.50 avg300=3.75 total=21\nfull avg10=0.00 avg60=0.10 avg300=99.99 total=22\n",
	"io.stat":      "254:0 rbytes=31 wbytes=32 rios=33 wios=34 dbytes=35 dios=36\n8:16 rbytes=37 cost.usage=4\n",
	"io.pressure":  "some avg10=0.00 avg60=0.00 avg300=0.00 total=41\n",
	"memory.stat": "anon 51\nfile 52\nkernel 1\nkernel_stack 53\npagetables 2\nsock 54\nshmem 55\nfile_mapped 56\nfile_dirty 57\nfile_writeback 58\n" +
		"swapcached 3\nanon_thp 59\ninactive_anon 60\nactive_anon 61\ninactive_file 62\nactive_file 63\nunevictable 64\nslab_reclaimable 65\n" +
		"slab_unreclaimable 66\nslab 67\nworkingset_refault_anon 4\nworkingset_nodereclaim 68\npgscan 69\npgsteal 70\npgfault 71\npgmajfault 72\n" +
		"pgrefill 73\npgactivate 74\npgdeactivate 75\npglazyfree 76\npglazyfreed 77\nthp_fault_alloc 78\nthp_collapse_alloc 79\n",
	"memory.current": "81\n", "memory.max": "82\n", "memory.peak": "83\n",
	"memory.swap.current": "84\n", "memory.swap.max": "max\n", "memory.swap.peak": "85\n",
	"memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=86\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=87\n",
	"memory.events":   "low 91\nhigh 92\nmax 93\noom 94\noom_kill 95\noom_group_kill 96\n",
	"pids.current":    "101\n", "pids.max": "102\n",
}

// withHugepages adds the files of each of the machine's page sizes.
func withHugepages(files map[string]string, endings map[string]string) map[string]string {
	all := maps.Clone(files)
	for _, size := range hugepageSizes() {
		for ending, text := range endings {
			all["hugetlb."+size+"."+ending] = text
		}
	}
	return all
}

// written is a machine of files, each v1 controller in a tree of its own and otherwise all in one cgroup2 directory, and
// the one group on it.
func written(t testing.TB, unified bool, files map[string]string) *Group {
	t.Helper()
	h := &host{unified: unified}
	root := t.TempDir()
	if unified {
		h.v2 = root
		files = withHugepages(files, map[string]string{"current": "121\n", "max": "max\n", "events": "max 122\n"})
	} else {
		for _, name := range []string{"blkio", "cpu", "cpuacct", "hugetlb", "memory", "pids"} {
			h.v1 = append(h.v1, hierarchy{dir: filepath.Join(root, name), prefix: "/", controllers: []string{name}})
			put(t, filepath.Join(root, name, name+"."+"memsw.usage_in_bytes"), "0\n") // for the library, which looks above
		}
		files = withHugepages(files, map[string]string{"usage_in_bytes": "121\n", "max_usage_in_bytes": "122\n", "failcnt": "123\n"})
	}
	for name, text := range files {
		dir := root
		if controller, _, _ := strings.Cut(name, "."); !unified {
			dir = filepath.Join(root, controller)
		}
		put(t, filepath.Join(dir, "group", name), text)
	}
	m := newManager(h, Options{})
	t.Cleanup(func() { m.Close() })
	g, err := m.Load("/group")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func put(t testing.TB, file, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// machines are those of files.
var machines = map[string]struct {
	unified bool
	files   map[string]string
}{
	"v1": {files: filesV1},
	"v2": {unified: true, files: filesV2},
}

// Of a kernel that says everything, everything must be as the library reads it.
func TestStatsOfEveryFile(t *testing.T) {
	for name, machine := range machines {
		t.Run(name, func(t *testing.T) {
			g := written(t, machine.unified, machine.files)
			if diff := cmp.Diff(libraryStats(t, g)(), decoded(t, g), protocmp.Transform()); diff != "" {
				t.Errorf("-library +ours:\n%s", diff)
			}
		})
	}
}

// What a kernel does not account for is zero, whichever file it is that is missing.
func TestStatsWithoutAFile(t *testing.T) {
	for name, machine := range machines {
		t.Run(name, func(t *testing.T) {
			whole := decoded(t, written(t, machine.unified, machine.files))
			for file := range machine.files {
				fewer := maps.Clone(machine.files)
				delete(fewer, file)
				got := decoded(t, written(t, machine.unified, fewer))
				if proto.Equal(got, whole) {
					t.Errorf("without %s, metrics are the same", file)
				}
			}
		})
	}
}

// A file that says something else than it should is an error that names it.
func TestStatsOfAMalformedFile(t *testing.T) {
	value := regexp.MustCompile(`(^|[ =\n])(\d+|max)`)
	for name, machine := range machines {
		t.Run(name, func(t *testing.T) {
			for file, text := range machine.files {
				for _, bad := range []string{value.ReplaceAllString(text, "${1}x"), value.ReplaceAllString(text, "${1}99999999999999999999")} {
					broken := maps.Clone(machine.files)
					broken[file] = bad
					if _, err := written(t, machine.unified, broken).Stats(); err == nil || !strings.Contains(err.Error(), "/"+file+": ") {
						t.Errorf("%s with %q: %v; want an error that names it", file, bad, err)
					}
				}
			}
		})
	}
}

func TestStatsOfALongFile(t *testing.T) {
	long := maps.Clone(filesV2)
	long["memory.stat"] = strings.Repeat("something_new 12345678\n", 1000) + filesV2["memory.stat"]
	if s := statsOf(t, written(t, true, long)).(*metrics.V2); s.Memory.Anon != 51 || s.Memory.ThpCollapseAlloc != 79 {
		t.Errorf("after 23000 bytes of others: %+v", s.Memory)
	}
}

func TestStatsOfAGroupThatIsGone(t *testing.T) {
	onEachHost(t, func(t *testing.T, m *Manager) {
		g, err := m.Create(testParent+"/gone", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Delete(); err != nil {
			t.Fatal(err)
		}
		if s, err := g.Stats(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v, %v; want not found", s, err)
		}
	})
}

func TestHugepageSize(t *testing.T) {
	for name, want := range map[string]string{
		"hugepages-64kB": "64KB", "hugepages-2048kB": "2MB", "hugepages-32768kB": "32MB", "hugepages-1048576kB": "1GB", "hugepages-16777216kB": "16GB",
		"hugepages-2M": "", "hugepages-kB": "", "other": "",
	} {
		if got, ok := hugepageSize(name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, ok, want)
		}
	}
}

// FuzzStats has the same text in every control file of both versions.
func FuzzStats(f *testing.F) {
	for _, machine := range machines {
		for _, text := range machine.files {
			f.Add(text)
		}
	}
	root := f.TempDir()
	var groups []*Group
	for name, machine := range machines {
		one := filepath.Join(root, "text")
		links := make(map[string]string)
		for file := range machine.files {
			links[file] = ""
		}
		g := written(f, machine.unified, links)
		for _, dir := range append(slices.Clone(g.v1), g.v2) {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				file := filepath.Join(dir, e.Name())
				if err := errors.Join(os.Remove(file), os.Symlink(one, file)); err != nil {
					f.Fatal(name, err)
				}
			}
		}
		groups = append(groups, g)
	}
	f.Fuzz(func(t *testing.T, text string) {
		put(t, filepath.Join(root, "text"), text)
		for _, g := range groups {
			s, err := g.Stats()
			if err != nil && !strings.Contains(err.Error(), "/group/") {
				t.Errorf("%q: %v; want the file's name", text, err)
			}
			if err == nil {
				if body, err := s.MarshalVT(); err != nil || len(body) == 0 {
					t.Errorf("%q: %d bytes, %v", text, len(body), err)
				}
			}
		}
	})
}
