package convert

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// A parser reads records of JSON into values of columns. One goroutine uses it.
type parser struct {
	json JSON
	root *node

	values [][]parquet.Value // of each column
	marks  []int             // how many each had before the record
	arena  []byte            // texts that values point to; one that is full is left to them
	rows   int64             // in values

	s       scanner
	scratch []byte // of a member's name
	stamp   uint64
}

// read reads a record into values: all of it, or nothing where it fails.
func (p *parser) read(record []byte) *Failure {
	for i, v := range p.values {
		p.marks[i] = len(v)
	}
	rows := p.rows
	p.s = scanner{b: record}
	err := errJSON // of a record without an object
	for p.s.next() != 0 || p.s.i < len(record) {
		if p.s.next() != '{' {
			err = errors.New("an object of JSON is wanted")
			break
		}
		if err = p.object(p.root, 0, 0); err != nil {
			break
		}
		p.rows++
	}
	if err == nil {
		return nil
	}
	for i, n := range p.marks {
		p.values[i] = p.values[i][:n]
	}
	p.rows = rows
	return failureOf(err)
}

// clear forgets what was read, whose memory is used again.
func (p *parser) clear() {
	for i, v := range p.values {
		p.values[i] = v[:0]
	}
	p.arena, p.rows = p.arena[:0], 0
}

// keep returns b, or what unescape makes of it, in memory that stays.
func (p *parser) keep(b []byte, escaped bool) ([]byte, error) {
	if cap(p.arena)-len(p.arena) < len(b) {
		p.arena = make([]byte, 0, max(chunk, len(b)))
	}
	start := len(p.arena)
	if !escaped {
		p.arena = append(p.arena, b...)
		return p.arena[start:len(p.arena):len(p.arena)], nil
	}
	var err error
	p.arena, err = unescape(p.arena, b) // it is no longer than b
	return p.arena[start:len(p.arena):len(p.arena)], err
}

func (p *parser) put(n *node, v parquet.Value, rep int) {
	p.values[n.column] = append(p.values[n.column], v.Level(rep, n.def, n.column))
}

// null writes that n is not there: the leaves of it have level def.
func (p *parser) null(n *node, rep, def int) {
	switch n.typ.Kind {
	case Struct:
		for _, f := range n.fields {
			p.null(f, rep, def)
		}
	case Map:
		p.null(n.key, rep, def)
		p.null(n.elem, rep, def)
	case Array:
		p.null(n.elem, rep, def)
	default:
		p.values[n.column] = append(p.values[n.column], parquet.Value{}.Level(rep, def, n.column))
	}
}

// object reads an object into the fields of n.
func (p *parser) object(n *node, rep, def int) error {
	p.stamp++
	stamp, guess := p.stamp, &n.first
	err := p.s.object(func(name []byte, escaped bool) error {
		// Records of one source have their members in the same order.
		f, err := *guess, error(nil)
		if escaped || f == nil || f.member != string(name) {
			if f, err = p.field(n, name, escaped); f != nil {
				*guess = f
			}
		}
		switch {
		case err != nil:
			return err
		case f == nil:
			_, err := p.s.raw()
			return err
		case f.seen == stamp:
			return fmt.Errorf("%.100q is there twice", f.name)
		}
		f.seen, guess = stamp, &f.after
		return p.value(f, rep, def)
	})
	if err != nil {
		return err
	}
	for _, f := range n.fields {
		if f.seen != stamp {
			p.null(f, rep, def)
		}
	}
	return nil
}

// field finds the column that a member goes to; nil: none.
func (p *parser) field(n *node, name []byte, escaped bool) (*node, error) {
	if !escaped && !p.json.Dots {
		if f := n.byKey[string(name)]; f != nil {
			return f, nil
		}
	}
	if escaped {
		var err error
		if name, err = unescape(p.scratch[:0], name); err != nil {
			return nil, err
		}
		p.scratch = name
	}
	if p.json.Dots || p.json.CaseInsensitive {
		p.scratch = p.plainName(name)
		name = p.scratch
	}
	return n.byKey[string(name)], nil
}

// plainName is a name as the tree has it.
func (p *parser) plainName(name []byte) []byte {
	out := p.scratch[:0]
	for i, c := range name {
		switch {
		case c == '.' && p.json.Dots:
			c = '_'
		case c >= 'A' && c <= 'Z' && p.json.CaseInsensitive:
			c |= 0x20
		case c >= utf8.RuneSelf && p.json.CaseInsensitive:
			rest := strings.ToLower(string(name[i:]))
			if p.json.Dots {
				rest = strings.ReplaceAll(rest, ".", "_")
			}
			return append(out[:i:i], rest...)
		}
		out = append(out, c)
	}
	return out
}

// value reads the value of n; one that is null has level def.
func (p *parser) value(n *node, rep, def int) error {
	c := p.s.next()
	if c == 'n' {
		if err := p.s.word("null"); err != nil {
			return err
		}
		p.null(n, rep, def)
		return nil
	}
	switch n.typ.Kind {
	case Struct:
		if c != '{' {
			return mismatch(n, "an object")
		}
		return p.object(n, rep, n.def)
	case Array:
		if c != '[' {
			return mismatch(n, "a list")
		}
		return p.list(n, rep)
	case Map:
		if c != '{' {
			return mismatch(n, "an object")
		}
		return p.entries(n, rep)
	}
	return p.leaf(n, c, rep)
}

func mismatch(n *node, want string) error { return fmt.Errorf("column %q: want %s", n.name, want) }

func (p *parser) list(n *node, rep int) error {
	empty := true
	err := p.s.list(func(i int) error {
		if empty = false; i > 0 {
			rep = n.rep
		}
		return p.value(n.elem, rep, n.def+1)
	})
	if err == nil && empty {
		p.null(n.elem, rep, n.def)
	}
	return err
}

func (p *parser) entries(n *node, rep int) error {
	i := 0
	err := p.s.object(func(name []byte, escaped bool) error {
		if i++; i > 1 {
			rep = n.rep
		}
		name, err := p.keep(name, escaped)
		if err != nil {
			return err
		}
		v, err := p.convert(n.key, token{text: name, quoted: true})
		if err != nil {
			return err
		}
		p.put(n.key, v, rep)
		return p.value(n.elem, rep, n.def+1)
	})
	if err == nil && i == 0 {
		p.null(n.key, rep, n.def)
		p.null(n.elem, rep, n.def)
	}
	return err
}

// leaf reads a simple value.
func (p *parser) leaf(n *node, c byte, rep int) error {
	var t token
	switch c {
	case '"':
		text, escaped, err := p.s.text()
		if err != nil {
			return err
		}
		t.quoted = true
		if t.text = text; n.typ.Kind == String || n.typ.Kind == Binary || escaped {
			if t.text, err = p.keep(text, escaped); err != nil {
				return err
			}
		}
	case '{', '[':
		if n.typ.Kind != String {
			return mismatch(n, "a simple value")
		}
		fallthrough
	default:
		raw, err := p.s.raw()
		if err != nil {
			return err
		}
		if t.text = raw; n.typ.Kind == String {
			if t.text, err = p.keep(bytes.TrimSpace(raw), false); err != nil {
				return err
			}
		}
	}
	v, err := p.convert(n, t)
	if err != nil {
		return err
	}
	p.put(n, v, rep)
	return nil
}
