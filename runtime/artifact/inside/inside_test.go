package inside

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/hachi-run/hachi/runtime/artifact/layout"
)

// When this fails, wazero was upgraded. Read, in this order, what changed in its
//
//	cache.go                                  the cache struct and its field fileCache
//	internal/filecache                        the interface Cache and its key
//	internal/engine/wazevo/engine_cache.go    the order and sizes of reads in deserializeCompiledModule, and fileCacheKey
//	internal/engine/wazevo/engine.go          whether anything but code and offsets is taken from the real module (NewModuleContextOffsetData),
//	                                          and who keeps an address of a module's code (Replace)
//	internal/wasm/store.go                    when data segments are applied, and the allocator asked
//	internal/engine/wazevo/call_engine.go     the stack of a callEngine: when it is grown, cloned or replaced (UseStack)
//	config.go, internal/wasm/module.go        compiledModule's field module and the section of imports
//	internal/platform/cpuid_*.go              the features in layout.CPU
//
// then set layout.Wazero, increase layout.Version if the format did not, and run the package's tests on amd64 and arm64.
func TestWazeroIsTheVersionThisWasWrittenFor(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/tetratelabs/wazero (\S+)`).FindSubmatch(mod)
	if m == nil || string(m[1]) != layout.Wazero {
		t.Errorf("go.mod requires wazero %q, the artefact format is for %s", m[1], layout.Wazero)
	}
}

// The key that wazero asks with contains its view of the CPU. It must be layout's, or an artefact might run on a
// machine it was not made for.
func TestCPUFeaturesAreThoseWazeroKeysOn(t *testing.T) {
	c := new(keyed)
	cache, err := Plant(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	defer cache.Close(ctx)
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	defer rt.Close(ctx)
	wasm := []byte("\x00asm\x01\x00\x00\x00")
	if _, err := rt.CompileModule(ctx, wasm); err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(append(wasm, 0))
	want := sha256.Sum256(binary.LittleEndian.AppendUint64(append(id[:], "WAZEVO"...), layout.CPU()))
	if c.key != want {
		t.Errorf("wazero's key %x, from layout.CPU() %#x: %x", c.key, layout.CPU(), want)
	}
}

type keyed struct {
	key   [32]byte
	entry []byte
}

func (c *keyed) Get(key [32]byte) (io.ReadCloser, bool, error) { c.key = key; return nil, false, nil }
func (c *keyed) Add(_ [32]byte, r io.Reader) (err error)       { c.entry, err = io.ReadAll(r); return err }
func (c *keyed) Delete([32]byte) error                         { return nil }

func TestSplitRefusesWhatItDoesNotKnow(t *testing.T) {
	c := new(keyed)
	cache, err := Plant(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	defer cache.Close(ctx)
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	defer rt.Close(ctx)
	if _, err := rt.CompileModule(ctx, addModule); err != nil {
		t.Fatal(err)
	}
	entry := c.entry
	if _, code, _, err := Split(entry); err != nil || len(code) == 0 {
		t.Fatalf("%d bytes of code, %v", len(code), err)
	}
	for n := range entry[:len(entry)-5] {
		if _, _, _, err := Split(entry[:n]); err == nil {
			t.Errorf("accepted the first %d of %d bytes", n, len(entry))
		}
	}
	changed := []byte(strings.Replace(string(entry), "WAZEVO", "WAZERO", 1))
	if _, _, _, err := Split(changed); err == nil {
		t.Error("accepted another magic")
	}
}

// The cell of the second of three globals is found, and the values survive the search.
func TestGlobalCellIsTheGlobalsStorage(t *testing.T) {
	ctx := context.Background()
	for name, config := range map[string]wazero.RuntimeConfig{"compiler": wazero.NewRuntimeConfigCompiler(), "interpreter": wazero.NewRuntimeConfigInterpreter()} {
		rt := wazero.NewRuntimeWithConfig(ctx, config)
		defer rt.Close(ctx)
		mod, err := rt.Instantiate(ctx, globalsModule)
		if err != nil {
			t.Fatal(err)
		}
		b := mod.ExportedGlobal("b").(api.MutableGlobal)
		b.Set(42)
		cell, err := GlobalCell(b)
		if name == "interpreter" {
			if !errors.Is(err, ErrInternals) {
				t.Errorf("interpreter: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if *cell != 42 {
			t.Errorf("the search left %d", *cell)
		}
		*cell = 7
		got, err := mod.ExportedFunction("get").Call(ctx)
		if err != nil || got[0] != 7 {
			t.Errorf("the guest reads %v, %v; want 7", got, err)
		}
		if _, err := GlobalCell(mod.ExportedGlobal("a")); !errors.Is(err, ErrInternals) {
			t.Errorf("an immutable global: %v", err)
		}
	}
}

// globalsModule has globals a (i32, immutable), b (i32, exported) and get() -> i32, which returns b.
var globalsModule = []byte("\x00asm\x01\x00\x00\x00\x01\x05\x01\x60\x00\x01\x7f\x03\x02\x01\x00" +
	"\x06\x10\x03\x7f\x00\x41\x2a\x0b\x7f\x01\x41\x2a\x0b\x7e\x01\x42\x2a\x0b" +
	"\x07\x0f\x03\x01a\x03\x00\x01b\x03\x01\x03get\x00\x00\x0a\x06\x01\x04\x00\x23\x01\x0b")

// addModule exports add(i32, i32) -> i32.
var addModule = []byte("\x00asm\x01\x00\x00\x00\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f\x03\x02\x01\x00\x07\x07\x01\x03add\x00\x00\x0a\x09\x01\x07\x00\x20\x00\x20\x01\x6a\x0b")
