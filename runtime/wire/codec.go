package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hachi-run/hachi/runtime/jail"
)

// coder writes a message into b, or reads it from there. One walk over a message's fields serves both ways, so that
// they cannot differ. It is not encoding/json because both sides live for one message: building its tables took a
// tenth of an engine's start.
//
// Numbers are varints; a text or a list is its length and then what is in it; what may be missing is a flag and then,
// if there, itself.
type coder struct {
	b       []byte
	reading bool
	err     error // of reading; the fields from there on are zero
}

var errFrame = errors.New("malformed frame")

func (c *coder) fail() {
	if c.err == nil {
		c.err = errFrame
	}
	c.b = nil
}

func (c *coder) number(n *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *n)
		return
	}
	var size int
	if *n, size = binary.Uvarint(c.b); size <= 0 {
		*n = 0
		c.fail()
		return
	}
	c.b = c.b[size:]
}

// integer walks a number of another type, which must hold what was written.
func integer[T ~int | ~int64 | ~uint32](c *coder, n *T) {
	u := uint64(*n)
	c.number(&u)
	if *n = T(u); uint64(*n) != u {
		*n = 0
		c.fail()
	}
}

func (c *coder) flag(f *bool) {
	var n uint64
	if *f {
		n = 1
	}
	if c.number(&n); n > 1 {
		c.fail()
	}
	*f = n == 1
}

func (c *coder) text(s *string) {
	n := uint64(len(*s))
	c.number(&n)
	switch {
	case !c.reading:
		c.b = append(c.b, *s...)
	case n > uint64(len(c.b)):
		*s = ""
		c.fail()
	default:
		*s, c.b = string(c.b[:n]), c.b[n:]
	}
}

// list walks a list; an empty one is read as nil.
func list[T any](c *coder, l *[]T, each func(*coder, *T)) {
	n := uint64(len(*l))
	c.number(&n)
	if c.reading {
		*l = nil
		if n > uint64(len(c.b)) { // each takes a byte at least
			c.fail()
			return
		}
	}
	for i := uint64(0); i < n && c.err == nil; i++ {
		if c.reading {
			*l = append(*l, *new(T))
		}
		each(c, &(*l)[i])
	}
}

func (c *coder) texts(l *[]string) { list(c, l, (*coder).text) }

// maybe walks what may be missing.
func maybe[T any](c *coder, p **T, each func(*coder, *T)) {
	there := *p != nil
	c.flag(&there)
	if c.reading {
		*p = nil
		if there {
			*p = new(T)
		}
	}
	if there {
		each(c, *p)
	}
}

func (c *coder) message(m *Message) {
	maybe(c, &m.Config, (*coder).config)
	maybe(c, &m.Start, func(*coder, *Start) {})
	maybe(c, &m.Stop, func(c *coder, s *Stop) {
		integer(c, &s.Signal)
		integer(c, &s.Grace)
	})
	maybe(c, &m.Limit, func(c *coder, l *Limit) { c.number(&l.Memory) })
	maybe(c, &m.Ready, func(*coder, *Ready) {})
	maybe(c, &m.Failed, func(c *coder, f *Failed) {
		c.text(&f.Error)
		c.flag(&f.Listen)
	})
	maybe(c, &m.Limited, func(*coder, *Limited) {})
	maybe(c, &m.Exit, func(c *coder, e *Exit) {
		integer(c, &e.Code)
		c.flag(&e.OOM)
	})
}

func (c *coder) config(g *Config) {
	c.texts(&g.Args)
	c.texts(&g.Env)
	c.text(&g.Cwd)
	maybe(c, &g.Module, func(c *coder, m *Module) {
		c.text(&m.Name)
		c.flag(&m.Compiled)
	})
	list(c, &g.Preopens, func(c *coder, p *Preopen) {
		c.text(&p.Guest)
		c.text(&p.Path)
		c.flag(&p.ReadOnly)
	})
	list(c, &g.Listeners, func(c *coder, l *Listener) {
		c.text(&l.Address)
		c.text(&l.Name)
	})
	c.number(&g.Memory)
	c.jail(&g.Jail)
	c.flag(&g.Join)
}

func (c *coder) jail(j *jail.Config) {
	maybe(c, &j.Root, func(c *coder, r *jail.Root) {
		integer(c, &r.FD)
		c.text(&r.Path)
		list(c, &r.Rootfs, (*coder).mount)
		list(c, &r.Mounts, (*coder).mount)
		c.flag(&r.ReadOnly)
		c.texts(&r.MaskedPaths)
		c.texts(&r.ReadonlyPaths)
	})
	list(c, &j.Paths, func(c *coder, p *jail.Path) {
		c.text(&p.Path)
		c.flag(&p.ReadOnly)
	})
	maybe(c, &j.User, func(c *coder, u *jail.User) {
		integer(c, &u.UID)
		integer(c, &u.GID)
		list(c, &u.Groups, integer[uint32])
		maybe(c, &u.Umask, integer[uint32])
	})
	list(c, &j.Rlimits, func(c *coder, l *jail.Rlimit) {
		c.text(&l.Type)
		c.number(&l.Soft)
		c.number(&l.Hard)
	})
	maybe(c, &j.OOMScoreAdj, integer[int])
}

func (c *coder) mount(m *jail.Mount) {
	c.text(&m.Target)
	c.text(&m.Type)
	c.text(&m.Source)
	c.texts(&m.Options)
}

// encode makes a frame of m.
func encode(m *Message) ([]byte, error) {
	c := coder{b: make([]byte, headSize, 512)}
	c.message(m)
	n := len(c.b) - headSize
	if n > MaxFrame {
		return nil, fmt.Errorf("write frame: %d bytes exceed %d (shorten args or environment)", n, MaxFrame)
	}
	binary.LittleEndian.PutUint32(c.b, uint32(n))
	return c.b, nil
}

// unmarshal reads a frame's body, all of it.
func unmarshal(body []byte) (*Message, error) {
	m := new(Message)
	c := coder{b: body, reading: true}
	c.message(m)
	if c.err == nil && len(c.b) > 0 {
		c.fail()
	}
	if c.err != nil {
		return nil, fmt.Errorf("read frame: %w", c.err)
	}
	return m, nil
}
