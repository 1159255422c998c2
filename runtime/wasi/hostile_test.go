package wasi

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/unix"
)

// everything gives a guest one of each kind of descriptor: 0 stdin, 1 stdout, 3 listener, 4 directory, and
// then a file, a connection and a socket of its own.
func everything(t testing.TB, variant int) *raw {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
			err = unix.Listen(fd, 10)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	listener := os.NewFile(uintptr(fd), "listener")
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{r, w, listener, dir} {
			_ = f.Close()
		}
	})
	g := newRaw(t, Options{
		Args: []string{"a", "b"}, Env: []string{"C=d"}, Stdin: r, Stdout: w,
		Listeners: []*os.File{listener}, Preopens: []Preopen{{Guest: "/", Dir: dir}},
	}, func(string) int { return variant })
	if _, e := g.open(4, "file", 0, openCreate, 0); e != success {
		t.Fatal(e)
	}
	return g
}

// endless are the calls that may rightly not return.
var endless = []string{"proc_exit", "proc_raise", "poll_oneoff", "fd_read", "fd_write", "sock_accept", "sock_recv", "sock_recv_from", "sock_connect", "sock_getaddrinfo"}

// TestBadPointers aims every parameter of every function at the end of memory and beyond, at every kind of
// descriptor. Each call has to return an errno.
func TestBadPointers(t *testing.T) {
	const end = rawPages << 16
	values := []uint64{0, 1, 3, 4, 5, end - 1, end, end + 1, math.MaxInt32, math.MaxUint32, math.MaxUint32 - 3, math.MaxInt64, math.MaxUint64}
	for variant := range 2 {
		g := everything(t, variant)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, name := range sorted(functions) {
			if slices.Contains(endless[:2], name) {
				continue
			}
			signature := functions[name][min(variant, len(functions[name])-1)].signature
			args := make([]uint64, len(signature))
			for i := range args {
				for fd := range uint64(7) {
					for _, v := range values {
						if v > math.MaxUint32 && signature[i] == 'i' {
							continue
						}
						for j := range args {
							args[j] = end - 2
						}
						args[0] = fd
						args[i] = v
						if name == "fd_close" || name == "fd_renumber" || name == "fd_allocate" && v > end && v < math.MaxInt64 {
							continue // would end the others' descriptors, or fill the disk
						}
						stop := time.AfterFunc(patience, func() { g.Interrupt(1) })
						_, err := g.try(name, args...)
						stop.Stop()
						if err != nil {
							t.Fatalf("%s%v: %v", name, args, err)
						}
					}
				}
			}
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<30 {
			t.Errorf("the calls allocated %d bytes", grown)
		}
	}
}

func sorted(m map[string][]variant) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestHugeCounts: numbers of vectors, bytes and subscriptions that would overflow or exhaust.
func TestHugeCounts(t *testing.T) {
	g := everything(t, 0)
	file := uint64(5)
	for _, n := range []uint64{1 << 29, 1<<29 + 1, 1 << 31, math.MaxUint32} {
		for _, name := range []string{"fd_read", "fd_write"} {
			g.want(eFault, name, file, 0, n, atResult)
			g.want(eFault, name, file, atData, n, atResult)
		}
	}
	// More vectors than Linux takes are served in part; all of them overlap.
	var vectors []byte
	for range 4096 {
		vectors = binary.LittleEndian.AppendUint32(vectors, atData)
		vectors = binary.LittleEndian.AppendUint32(vectors, 1)
	}
	g.put(atSubs, vectors)
	g.ok("fd_write", file, atSubs, 4096, atResult)
	if n := g.u32(atResult); n == 0 || n > 4096 {
		t.Errorf("wrote %d of 4096 vectors", n)
	}
	g.want(eFault, "random_get", 0, math.MaxUint32)
	p, _ := g.path(atPath, "file")
	g.want(eNametoolng, "path_unlink_file", 4, p, math.MaxUint32)
	g.want(eNametoolng, "path_unlink_file", 4, p, 4096)
	long := strings.Repeat("a/", 2047)
	p, n := g.path(atPath, long)
	g.want(44, "path_unlink_file", 4, p, n)
}

// TestDescriptorExhaustion: the guest meets its own limit; the engine keeps descriptors for itself, and
// closing makes room again.
func TestDescriptorExhaustion(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }()
	g := everything(t, 0)
	opened := 0
	var last uint64
	for range 1000 {
		fd, e := g.open(4, "file", 0, 0, 0)
		if e == eMfile {
			break
		}
		if e != success {
			t.Fatalf("open: errno %d", e)
		}
		last = fd
		opened++
	}
	if opened == 0 || opened > 256-reserved {
		t.Errorf("%d descriptors of 256", opened)
	}
	if f, err := os.Open(os.DevNull); err != nil {
		t.Errorf("the engine has no descriptor left: %v", err)
	} else {
		_ = f.Close()
	}
	g.want(eMfile, "sock_accept", 3, 0, atResult)
	g.ok("fd_close", last)
	if fd, e := g.open(4, "file", 0, 0, 0); e != success || fd != last {
		t.Errorf("after a close: descriptor %d, errno %d, want %d", fd, e, last)
	}
}

// TestPollStorm: polls of the largest size, again and again, cost bounded memory.
func TestPollStorm(t *testing.T) {
	g := everything(t, 0)
	const n = 600
	var subs []byte
	for i := range n {
		subs = append(subs, fdSubscription(uint64(i), uint8(1+i%2), uint32(i%7))...)
	}
	g.put(atSubs, subs)
	run := func(times int) uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		before := m.HeapAlloc
		for range times {
			g.ok("poll_oneoff", atSubs, 0x100, n, 0x80)
		}
		runtime.GC()
		runtime.ReadMemStats(&m)
		return max(m.HeapAlloc, before) - before
	}
	run(10)
	if grown := run(1000); grown > 1<<20 {
		t.Errorf("1000 polls left %d bytes behind", grown)
	}
}

// FuzzCalls plays a guest that makes random calls with random parameters: every call ends with an errno
// or an exit, soon, and whatever happens to the memory.
func FuzzCalls(f *testing.F) {
	names := sorted(functions)
	seed := func(name string, args ...uint64) []byte {
		i, _ := slices.BinarySearch(names, name)
		b := []byte{byte(i)}
		for _, a := range args {
			b = binary.LittleEndian.AppendUint64(b, a)
		}
		return b
	}
	f.Add(seed("fd_write", 5, atVector, 1, atResult), []byte("data"))
	f.Add(seed("path_open", 4, 1, atPath, 8, 1, uint64(rightsAll), uint64(rightsAll), 0, atResult), []byte("../x/../file"))
	f.Add(seed("poll_oneoff", atSubs, atEvents, 3, atResult), slices.Concat(clockSubscription(1, 0, 1, 1), fdSubscription(2, 1, 0)))
	f.Add(seed("fd_readdir", 4, atData, 500, 1<<63, atResult), []byte{})
	f.Add(seed("sock_recv", 3, atVector, 1, 2, atResult, atResult), []byte{})
	f.Fuzz(func(t *testing.T, calls, memory []byte) {
		for variant := range 2 {
			g := everything(t, variant)
			for at := uint32(0); len(memory) > 0 && int(at)+len(memory) < rawPages<<16 && at < 0xd000; at += 0x900 {
				g.put(at, memory)
			}
			rest := calls
			for range 20 {
				if len(rest) == 0 {
					break
				}
				name := names[int(rest[0])%len(names)]
				rest = rest[1:]
				signature := functions[name][min(variant, len(functions[name])-1)].signature
				args := make([]uint64, len(strings.TrimSuffix(signature, "!")))
				for i := range args {
					var b [8]byte
					rest = rest[copy(b[:], rest):]
					args[i] = binary.LittleEndian.Uint64(b[:])
					if signature[i] == 'i' {
						args[i] &= math.MaxUint32
					}
				}
				switch name {
				case "sock_getaddrinfo":
					continue // asks the network
				case "fd_allocate":
					args[1], args[2] = args[1]&(1<<60|0xffff), args[2]&0xffff // not the whole disk
				}
				if slices.Contains(endless, name) {
					stop := time.AfterFunc(20*time.Millisecond, func() { g.Interrupt(9) })
					_, err := g.try(name, args...)
					stop.Stop()
					if err != nil {
						if code := exitCode(t, err); name != "proc_exit" && name != "proc_raise" && code != 9 {
							t.Errorf("%s%v: %v", name, args, err)
						}
						break
					}
					continue
				}
				if _, err := g.try(name, args...); err != nil && g.ctx.Err() == nil {
					t.Fatalf("%s%v: %v", name, args, err)
				}
			}
		}
	})
}

// TestNoMemory: a guest without a memory gets EFAULT for every pointer.
func TestNoMemory(t *testing.T) {
	module := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f" + // type (i32 i32) -> i32
		"\x02\x25\x01\x16wasi_snapshot_preview1\x0arandom_get\x00\x00" +
		"\x03\x02\x01\x00" + // one function of that type
		"\x07\x08\x01\x04call\x00\x01" +
		"\x0a\x0a\x01\x08\x00\x20\x00\x20\x01\x10\x00\x0b")
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	guest, err := rt.CompileModule(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Instantiate(ctx, rt, guest); err != nil {
		t.Fatal(err)
	}
	mod, err := rt.InstantiateModule(ctx, guest, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	got, err := mod.ExportedFunction("call").Call(ctx, 0, 8)
	if err != nil || errno(got[0]) != eFault {
		t.Errorf("%v, %v, want EFAULT", got, err)
	}
}
