package conf

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

const (
	begin = "# >>> hachi: written by \"hachi node install\", removed by \"hachi node uninstall\"\n"
	end   = "# <<< hachi\n"
)

func block(text string) []byte { return []byte(begin + text + end) }

func appendBlock(base []byte, text string) []byte {
	out := bytes.Clone(base)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		// strip gives this newline back only if the marker says that it was ours.
		out = append(out, "\n"+lent...)
	}
	return append(out, block(text)...)
}

// lent is a line before a block that tells that the line break before it is not the operator's.
const lent = "# (the line before had no end)\n"

// element is an import of ours at the head of an array that the operator has.
var element = regexp.MustCompile(`"[^"\n]*/conf\.d/hachi\*\.toml", `)

// strip takes away everything of ours.
func strip(text []byte) []byte {
	s := string(text)
	for {
		from := strings.Index(s, begin)
		if from < 0 || from > 0 && s[from-1] != '\n' {
			break
		}
		length := strings.Index(s[from:], end)
		if length < 0 {
			break
		}
		head, tail := s[:from], s[from+length+len(end):]
		if cut, ok := strings.CutSuffix(head, "\n"+lent); ok {
			head = cut
		}
		s = head + tail
	}
	return element.ReplaceAll([]byte(s), nil)
}

// Ours tells whether a file holds anything of ours.
func Ours(text []byte) bool { return string(strip(text)) != string(text) }

// addImport makes a file import one more pattern. It changes no other byte.
func addImport(text []byte, pattern string) ([]byte, error) {
	at, err := importsArray(text)
	if err != nil {
		return nil, err
	}
	if at < 0 {
		// A key without a table must stand before the first table.
		text = append(block("imports = [\""+pattern+"\"]\n"), text...)
	} else {
		text = []byte(string(text[:at]) + `"` + pattern + `", ` + string(text[at:]))
	}
	return text, unmarshal(text, new(file))
}

// importsArray is the place after the bracket that opens the top-level array "imports", or -1.
func importsArray(text []byte) (int, error) {
	var p unstable.Parser
	p.Reset(text)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			break
		}
		if e.Kind != unstable.KeyValue {
			continue
		}
		keys := e.Key()
		if !keys.Next() || string(keys.Node().Data) != "imports" {
			continue
		}
		raw := p.Range(p.Raw(keys.Node().Raw))
		from := int(raw.Offset + raw.Length)
		rest := text[from:]
		open := bytes.IndexByte(rest, '[')
		if open < 0 || strings.TrimSpace(string(rest[:open])) != "=" {
			return 0, errors.New("imports is not an array (make it one)")
		}
		return from + open + 1, nil
	}
	if err := p.Error(); err != nil {
		return 0, fmt.Errorf("parse: %w", err)
	}
	return -1, nil
}

func unmarshal(text []byte, f *file) error {
	return explain(toml.Unmarshal(text, &f.content))
}
