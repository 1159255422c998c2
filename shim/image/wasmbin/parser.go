package wasmbin

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// parser fills a Summary section by section.
type parser struct {
	Summary
	types []string // signatures, by index
	code  int      // functions that have code
}

func (p *parser) section(id byte, r *io.SectionReader) error {
	s := Section{Name: sectionNames[id], Size: r.Size()}
	var read func(*cursor)
	switch id {
	case 0:
		read = func(c *cursor) { p.custom(c, &s) }
	case 1:
		read = p.typeSection
	case 2:
		read = p.imports
	case 3:
		read = func(c *cursor) { p.Functions = p.indices(c) }
	case 5:
		read = p.memories
	case 7:
		read = p.exports
	case 8:
		read = func(c *cursor) { c.u32(); p.Start = true }
	case 10:
		read = func(c *cursor) { p.code = int(c.u32()); c.at = len(c.buf) }
	}
	if read != nil {
		// Of code and custom sections only the beginning matters; they may be large.
		size := r.Size()
		if id == 0 || id == 10 {
			size = min(size, 1<<20)
		}
		if size > maxSection {
			return fmt.Errorf("%d bytes exceed %d", size, maxSection)
		}
		c := cursor{buf: make([]byte, size)}
		if _, err := r.ReadAt(c.buf, 0); err != nil && err != io.EOF {
			return err
		}
		read(&c)
		if c.err != nil {
			return c.err
		}
		if c.left() > 0 {
			return fmt.Errorf("%d bytes too many", c.left())
		}
	}
	p.Sections = append(p.Sections, s)
	return nil
}

func (p *parser) custom(c *cursor, s *Section) {
	name := c.name()
	s.Name = fmt.Sprintf("custom %.64q", name)
	if name == "producers" && c.err == nil {
		// What a custom section holds does not make a module invalid (2.5, custom sections).
		inner := cursor{buf: c.buf[c.at:]}
		for range inner.count(100) {
			field := inner.name()
			for range inner.count(1000) {
				tool := Producer{Field: field, Name: inner.name(), Version: inner.name()}
				if inner.err == nil {
					p.Producers = append(p.Producers, tool)
				}
			}
		}
	}
	if c.err == nil {
		c.at = len(c.buf)
	}
}

func (p *parser) typeSection(c *cursor) {
	for range c.count(1_000_000) {
		if form := c.byte(); form != 0x60 {
			// Types of the GC proposal; without them the signatures are unknown, which the summary bears.
			p.types, c.at = nil, len(c.buf)
			return
		}
		params := p.values(c)
		p.types = append(p.types, params+" -> "+strings.Trim(p.values(c), "()"))
		if c.err != nil {
			return
		}
	}
}

func (p *parser) values(c *cursor) string {
	n := c.count(1000)
	out := make([]string, 0, n)
	for range n {
		out = append(out, valueType(c))
	}
	return "(" + strings.Join(out, ", ") + ")"
}

func valueType(c *cursor) string {
	switch b := c.byte(); b {
	case 0x7f:
		return "i32"
	case 0x7e:
		return "i64"
	case 0x7d:
		return "f32"
	case 0x7c:
		return "f64"
	case 0x7b:
		return "v128"
	case 0x70:
		return "funcref"
	case 0x6f:
		return "externref"
	case 0x63, 0x64: // a reference to a heap type
		c.skipSigned()
		return "ref"
	default:
		if b < 0x40 || b > 0x7f {
			c.fail(fmt.Errorf("value type %#x is unknown", b))
		}
		return "ref"
	}
}

func (p *parser) imports(c *cursor) {
	for range c.count(maxEntries) {
		i := Import{Module: c.name(), Name: c.name()}
		switch kind := c.byte(); kind {
		case 0, 4:
			if kind == 4 {
				c.byte() // a tag's attribute
			}
			if n := c.u32(); int64(n) < int64(len(p.types)) {
				i.Type = p.types[n]
			} else if p.types != nil {
				c.fail(fmt.Errorf("type %d is not defined", n))
			}
			i.Kind = kinds[kind]
		case 1:
			i.Kind, i.Type = kinds[kind], valueType(c)
			limits(c)
		case 2:
			i.Kind = kinds[kind]
			m := limits(c)
			m.Imported = true
			p.Memories = append(p.Memories, m)
		case 3:
			i.Kind, i.Type = kinds[kind], valueType(c)
			if c.byte() == 1 {
				i.Type = "mut " + i.Type
			}
		default:
			c.fail(fmt.Errorf("import kind %d is unknown", kind))
		}
		if c.err != nil {
			return
		}
		p.Imports = append(p.Imports, i)
	}
	p.WASI = wasi(p.Imports)
}

func limits(c *cursor) Memory {
	flags := c.byte()
	if flags > 7 {
		c.fail(fmt.Errorf("limits with flags %#x", flags))
	}
	bits := uint(32)
	if flags&4 != 0 {
		bits = 64
	}
	m := Memory{Min: c.uleb(bits), Shared: flags&2 != 0}
	if flags&1 != 0 {
		if m.Max = c.uleb(bits); m.Max < m.Min {
			c.fail(errors.New("limits: maximum is below minimum"))
		}
	}
	return m
}

func (p *parser) memories(c *cursor) {
	for range c.count(100) {
		p.Memories = append(p.Memories, limits(c))
	}
}

func (p *parser) indices(c *cursor) int {
	n := c.count(10_000_000)
	for range n {
		c.u32()
	}
	return n
}

func (p *parser) exports(c *cursor) {
	for range c.count(maxEntries) {
		e := Export{Name: c.name()}
		if kind := c.byte(); int(kind) < len(kinds) {
			e.Kind = kinds[kind]
		} else {
			c.fail(fmt.Errorf("export kind %d is unknown", kind))
		}
		c.u32()
		if c.err != nil {
			return
		}
		p.Exports = append(p.Exports, e)
	}
}
