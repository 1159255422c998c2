package inside

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// TestReplaceRefusesWhatItDoesNotKnow has no code replaced that was not read into the stand-in; that it works shows
// wherever an artefact is loaded.
func TestReplaceRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, tt := range map[string]struct {
		config  wazero.RuntimeConfig
		modules int
		want    string
	}{
		"another mapping": {wazero.NewRuntimeConfigCompiler(), 1, "lies elsewhere"},
		"two modules":     {wazero.NewRuntimeConfigCompiler(), 2, "not one module"},
		"interpreter":     {wazero.NewRuntimeConfigInterpreter(), 1, "not one module"},
	} {
		rt := wazero.NewRuntimeWithConfig(t.Context(), tt.config)
		defer rt.Close(t.Context())
		var m wazero.CompiledModule
		for i := range tt.modules {
			var err error
			if m, err = rt.CompileModule(t.Context(), append(slices.Clone(globalsModule), 0, 3, 1, 'x', byte(i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := Replace(m, make([]byte, 1), nil); !errors.Is(err, ErrInternals) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
