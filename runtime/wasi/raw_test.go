package wasi

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// rawPages is the memory of a raw guest; its last byte is the end of memory that hostile pointers aim at.
const rawPages = 2

// raw is a guest without code of its own: for each host function it exports a function that passes its
// parameters on. Tests play the guest.
type raw struct {
	*System
	t   testing.TB
	mod api.Module
	mu  sync.Mutex
	run map[string]api.Function // guarded by mu
}

// newRaw makes a raw guest. choose picks the variant of functions that have several; nil takes the first.
func newRaw(t testing.TB, o Options, choose func(name string) int) *raw {
	t.Helper()
	return newRawOf(t, ModuleName, o, choose)
}

// newRawOf makes a raw guest that imports from a module of any name.
func newRawOf(t testing.TB, module string, o Options, choose func(name string) int) *raw {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		_ = rt.Close(ctx)
	})
	guest, err := rt.CompileModule(ctx, rawModule(module, choose))
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
	return &raw{System: s, t: t, mod: mod, run: map[string]api.Function{}}
}

// call makes a host call and returns its errno. A call that ends the guest fails the test.
func (r *raw) call(name string, args ...uint64) errno {
	r.t.Helper()
	e, err := r.try(name, args...)
	if err != nil {
		r.t.Fatalf("%s%v: %v", name, args, err)
	}
	return e
}

func (r *raw) try(name string, args ...uint64) (errno, error) {
	r.mu.Lock()
	f := r.run[name]
	if f == nil {
		if f = r.mod.ExportedFunction(name); f == nil {
			r.mu.Unlock()
			return 0, errors.New("not exported")
		}
		r.run[name] = f
	}
	r.mu.Unlock()
	results, err := f.Call(context.Background(), args...)
	if err != nil || len(results) == 0 {
		return 0, err
	}
	return errno(results[0]), nil
}

// exitCode is the code that a call ended the guest with.
func exitCode(t *testing.T, err error) uint32 {
	t.Helper()
	var exit *sys.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the guest did not exit: %v", err)
	}
	return exit.ExitCode()
}

// ok makes a host call that must succeed.
func (r *raw) ok(name string, args ...uint64) {
	r.t.Helper()
	if e := r.call(name, args...); e != success {
		r.t.Fatalf("%s%v: errno %d", name, args, e)
	}
}

// want makes a host call that must fail with e.
func (r *raw) want(e errno, name string, args ...uint64) {
	r.t.Helper()
	if got := r.call(name, args...); got != e {
		r.t.Errorf("%s%v: errno %d, want %d", name, args, got, e)
	}
}

func (r *raw) put(p uint32, b []byte) {
	r.t.Helper()
	if !r.mod.Memory().Write(p, b) {
		r.t.Fatalf("write of %d bytes at %d: out of memory", len(b), p)
	}
}

func (r *raw) bytes(p, n uint32) []byte {
	r.t.Helper()
	b, ok := r.mod.Memory().Read(p, n)
	if !ok {
		r.t.Fatalf("read of %d bytes at %d: out of memory", n, p)
	}
	return b
}

func (r *raw) u32(p uint32) uint32 { return binary.LittleEndian.Uint32(r.bytes(p, 4)) }
func (r *raw) u64(p uint32) uint64 { return binary.LittleEndian.Uint64(r.bytes(p, 8)) }

// Places in a raw guest's memory, far enough from each other.
const (
	atPath   = 0x100  // a path, up to 4 KiB
	atPath2  = 0x1200 // another one
	atVector = 0x2400 // an iovec
	atResult = 0x2500 // results
	atData   = 0x4000 // data
	atSubs   = 0x8000 // subscriptions
	atEvents = 0xc000 // events
)

// path puts a path into memory and returns its two arguments.
func (r *raw) path(at uint32, path string) (p, n uint64) {
	r.put(at, []byte(path))
	return uint64(at), uint64(len(path))
}

// vector describes n bytes of data and returns its two arguments.
func (r *raw) vector(n int) (p, count uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], atData)
	binary.LittleEndian.PutUint32(b[4:], uint32(n))
	r.put(atVector, b[:])
	return atVector, 1
}

// open is path_open with all rights.
func (r *raw) open(dir uint64, path string, followed, oflags, flags uint64) (uint64, errno) {
	r.t.Helper()
	return r.openWith(dir, path, followed, oflags, uint64(rightsAll), flags)
}

func (r *raw) openWith(dir uint64, path string, followed, oflags, base, flags uint64) (uint64, errno) {
	r.t.Helper()
	p, n := r.path(atPath, path)
	e := r.call("path_open", dir, followed, p, n, oflags, base, uint64(rightsAll), flags, atResult)
	if e != success {
		return 0, e
	}
	return uint64(r.u32(atResult)), success
}

// read is fd_read of up to n bytes.
func (r *raw) read(fd uint64, n int) (string, errno) {
	r.t.Helper()
	p, count := r.vector(n)
	if e := r.call("fd_read", fd, p, count, atResult); e != success {
		return "", e
	}
	return string(r.bytes(atData, r.u32(atResult))), success
}

func (r *raw) write(fd uint64, data string) (int, errno) {
	r.t.Helper()
	r.put(atData, []byte(data))
	p, count := r.vector(len(data))
	if e := r.call("fd_write", fd, p, count, atResult); e != success {
		return 0, e
	}
	return int(r.u32(atResult)), success
}

// rawModule assembles the module.
func rawModule(module string, choose func(string) int) []byte {
	var types, imports, funcs, exports, code [][]byte
	add := func(list *[][]byte, b ...byte) { *list = append(*list, b) }
	for name, variants := range functions {
		signature := variants[0].signature
		if choose != nil {
			signature = variants[min(choose(name), len(variants)-1)].signature
		}
		i := len(types)
		typ := []byte{0x60}
		params := []byte{}
		body := []byte{0}
		result := []byte{1, 0x7f}
		for _, c := range signature {
			switch c {
			case 'i':
				params = append(params, 0x7f)
			case 'I':
				params = append(params, 0x7e)
			case '!':
				result = []byte{0}
				continue
			}
			body = append(body, 0x20, byte(len(params)-1))
		}
		typ = append(append(append(typ, leb(len(params))...), params...), result...)
		add(&types, typ...)
		add(&imports, append(append(vec(module), vec(name)...), append([]byte{0}, leb(i)...)...)...)
		add(&funcs, leb(i)...)
		body = append(append(append(body, 0x10), leb(i)...), 0x0b)
		add(&code, append(leb(len(body)), body...)...)
		add(&exports, append(append(vec(name), 0), leb(len(functions)+i)...)...)
	}
	add(&exports, append(vec("memory"), 2, 0)...)
	wasm := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []struct {
		id   byte
		list [][]byte
	}{{1, types}, {2, imports}, {3, funcs}, {5, [][]byte{{1, rawPages, rawPages}}}, {7, exports}, {10, code}} {
		body := leb(len(s.list))
		for _, b := range s.list {
			body = append(body, b...)
		}
		wasm = append(append(append(wasm, s.id), leb(len(body))...), body...)
	}
	return wasm
}

func vec(s string) []byte { return append(leb(len(s)), s...) }

func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
