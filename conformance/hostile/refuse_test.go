package hostile

import (
	"strings"
	"testing"
	"unicode"
)

// TestRefused runs modules that cannot be run: hachi says so before the guest's first instruction, in words that name
// what is wrong, and exits with 125.
func TestRefused(t *testing.T) {
	n := newNeighbour(t)
	for name, c := range map[string]struct {
		module []byte
		says   string
	}{
		"unknown module of an import":      {importing("env", "gpu_open", exits), "import env.gpu_open: "},
		"unknown function of WASI":         {importing("wasi_snapshot_preview1", "fd_teleport", exits), "fd_teleport"},
		"wrong signature":                  {importing("wasi_snapshot_preview1", "fd_write", exits), "fd_write"},
		"hachi's own names":                {importing("hachi", "yield", nothing), "hachi"},
		"import with a terminal's orders":  {importing("\x1b]0;owned\a\n", "\x1b[2J", nothing), "import "},
		"import with a name of a megabyte": {importing("env", strings.Repeat("x", 1<<20), nothing), "import env.xxx"},
		"imported memory":                  {wanting("\x02\x00\x01"), "import env.thing: "},
		"imported table":                   {wanting("\x01\x70\x00\x01"), "env.thing"},
		"imported global":                  {wanting("\x03\x7f\x00"), "env.thing"},
		"no _start":                        {(&module{}).bytes(), "_start"},
		"_start with a parameter":          {startOf(exits), "_start takes parameters"},
		"empty file":                       {nil, "module"},
		"no module":                        {[]byte("#!/bin/sh\necho hello\n"), "module"},
		"cut off":                          {cut(), "module"},
		"invalid code":                     {main("\x6a").bytes(), "module"},
		"more memory than allowed":         {(&module{}).pages(1, 65537).bytes(), "memor"},
		"function body of unknown code":    {main("\xfe\xff\x7f").bytes(), ""},
		"sections in the wrong order":      {[]byte("\x00asm\x01\x00\x00\x00\x03\x01\x00\x01\x01\x00"), ""},
		"ten million functions":            {[]byte("\x00asm\x01\x00\x00\x00\x03\x04\x80\xad\xe2\x04"), ""},
		"a component":                      {[]byte("\x00asm\x0d\x00\x01\x00"), "component"},
	} {
		t.Run(name, func(t *testing.T) {
			g := guestRun{file: moduleFile(t, c.module), code: 125, says: []string{"hachi: ", c.says}}
			o := g.check(t, n)
			strange := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }
			if len(o.stderr) > 8<<10 || strings.ContainsFunc(o.stderr, strange) || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("not one line fit for a terminal: %d bytes, %.200q", len(o.stderr), o.stderr)
			}
		})
	}
}

func importing(from, what string, typ uint32) []byte {
	m := (&module{}).pages(1, 1)
	m.imported(from, what, typ)
	m.export("_start", m.function(nothing, ""))
	return m.bytes()
}

// wanting imports something that is no function; only its description is given.
func wanting(what string) []byte {
	m := &module{}
	m.export("_start", m.function(nothing, ""))
	m.imports = []string{name("env") + name("thing") + what}
	return m.bytes()
}

func startOf(typ uint32) []byte {
	m := (&module{}).pages(1, 1)
	m.export("_start", m.function(typ, ""))
	return m.bytes()
}

func cut() []byte {
	b := main(opLoop, opBr0, opEnd).bytes()
	return b[:len(b)-3]
}
