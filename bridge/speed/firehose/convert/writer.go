package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

// A Writer writes one file of Parquet from records of JSON. One goroutine uses it.
type Writer struct {
	json   JSON
	root   *node
	block  int
	out    *parquet.GenericWriter[any]
	column []*parquet.ColumnWriter

	values [][]parquet.Value // of each column, not handed to it yet
	marks  []int             // how many each had before the record
	arena  []byte            // texts that values point to; one that is full is left to them
	held   int               // bytes of records in values
	size   int               // bytes of records in the block, which bound it from above
	rows   int64

	s       scanner
	scratch []byte // of a member's name
	stamp   uint64
}

// codecs are the compressions of ParquetSerDe.
var codecs = map[string]compress.Codec{"SNAPPY": &parquet.Snappy, "GZIP": &parquet.Gzip,
	"UNCOMPRESSED": &parquet.Uncompressed}

// NewWriter returns a writer of t's columns. The same records give the same bytes.
func NewWriter(w io.Writer, t *Table, j JSON, p Parquet) *Writer {
	root, s, columns := schema(t, j, p)
	version := 1
	if p.Version2 {
		version = 2
	}
	out := parquet.NewGenericWriter[any](w, s, parquet.Compression(codecs[p.Compression]),
		parquet.PageBufferSize(p.Page),
		parquet.DataPageVersion(version), parquet.CreatedBy("tidemill", "1", ""))
	return &Writer{json: j, root: root, block: p.Block, out: out, column: out.ColumnWriters(),
		values: make([][]parquet.Value, columns), marks: make([]int, columns)}
}

// A Failure is why a record is not in the file: Code and Message go into its line
// (the service's own codes as far as they are known).
type Failure struct{ Code, Message string }

// Codes of failures.
const (
	codeParse = "DataFormatConversion.ParseError"
	codeData  = "DataFormatConversion.MalformedData"
)

// Add writes a record's rows: one or more objects of JSON, after one another. One
// that cannot be a row makes the whole record fail, and none of it is written. The
// error is of the file. Add keeps nothing of record.
func (w *Writer) Add(record []byte) (*Failure, error) {
	if f := w.read(record); f != nil {
		return f, nil
	}
	w.held += len(record)
	if w.held >= 1<<20 {
		return nil, w.hand()
	}
	return nil, nil
}

// Check says what Add would, and writes nothing.
func (w *Writer) Check(record []byte) *Failure {
	rows := w.rows
	f := w.read(record)
	w.back(rows)
	return f
}

// back takes back what the record that was read last has given.
func (w *Writer) back(rows int64) {
	for i, n := range w.marks {
		w.values[i] = w.values[i][:n]
	}
	w.rows = rows
}

// read reads a record into values.
func (w *Writer) read(record []byte) *Failure {
	for i, v := range w.values {
		w.marks[i] = len(v)
	}
	rows := w.rows
	w.s = scanner{b: record}
	err := errJSON // of a record without an object
	for w.s.next() != 0 || w.s.i < len(record) {
		if w.s.next() != '{' {
			err = errors.New("an object of JSON is wanted")
			break
		}
		if err = w.object(w.root, 0, 0); err != nil {
			break
		}
		w.rows++
	}
	if err != nil {
		w.back(rows)
		return failureOf(err)
	}
	return nil
}

func failureOf(err error) *Failure {
	for _, e := range []error{errJSON, errDepth, errUTF8} {
		if errors.Is(err, e) {
			return &Failure{codeParse, "Encountered " + err.Error()}
		}
	}
	return &Failure{codeData, "Data does not match the schema: " + err.Error()}
}

// Rows is how many rows there are.
func (w *Writer) Rows() int64 { return w.rows }

// hand gives what was read to the columns, and ends a block that is full.
func (w *Writer) hand() error {
	for i, v := range w.values {
		if len(v) == 0 {
			continue
		}
		if _, err := w.column[i].WriteRowValues(v); err != nil {
			return fmt.Errorf("parquet: %w", err)
		}
		w.values[i] = v[:0]
	}
	w.arena = w.arena[:0]
	w.size += w.held
	w.held = 0
	if w.size < w.block {
		return nil
	}
	w.size = 0
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

// Close ends the file. What it is written to stays open.
func (w *Writer) Close() error {
	if err := w.hand(); err != nil {
		return err
	}
	if err := w.out.Close(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

// keep returns b, or what unescape makes of it, in memory that stays.
func (w *Writer) keep(b []byte, escaped bool) ([]byte, error) {
	const chunk = 256 << 10
	if cap(w.arena)-len(w.arena) < len(b) {
		w.arena = make([]byte, 0, max(chunk, len(b)))
	}
	start := len(w.arena)
	if !escaped {
		w.arena = append(w.arena, b...)
		return w.arena[start:len(w.arena):len(w.arena)], nil
	}
	var err error
	w.arena, err = unescape(w.arena, b) // it is no longer than b
	return w.arena[start:len(w.arena):len(w.arena)], err
}

func (w *Writer) put(n *node, v parquet.Value, rep int) {
	w.values[n.column] = append(w.values[n.column], v.Level(rep, n.def, n.column))
}

// null writes that n is not there: the leaves of it have level def.
func (w *Writer) null(n *node, rep, def int) {
	switch n.typ.Kind {
	case Struct:
		for _, f := range n.fields {
			w.null(f, rep, def)
		}
	case Map:
		w.null(n.key, rep, def)
		w.null(n.elem, rep, def)
	case Array:
		w.null(n.elem, rep, def)
	default:
		w.values[n.column] = append(w.values[n.column], parquet.Value{}.Level(rep, def, n.column))
	}
}

// object reads an object into the fields of n.
func (w *Writer) object(n *node, rep, def int) error {
	w.stamp++
	stamp := w.stamp
	err := w.s.object(func(name []byte, escaped bool) error {
		f, err := w.field(n, name, escaped)
		switch {
		case err != nil:
			return err
		case f == nil:
			_, err := w.s.raw()
			return err
		case f.seen == stamp:
			return fmt.Errorf("%.100q is there twice", f.name)
		}
		f.seen = stamp
		return w.value(f, rep, def)
	})
	if err != nil {
		return err
	}
	for _, f := range n.fields {
		if f.seen != stamp {
			w.null(f, rep, def)
		}
	}
	return nil
}

// field finds the column that a member goes to; nil: none.
func (w *Writer) field(n *node, name []byte, escaped bool) (*node, error) {
	if !escaped && !w.json.Dots {
		if f := n.byKey[string(name)]; f != nil {
			return f, nil
		}
	}
	if escaped {
		var err error
		if name, err = unescape(w.scratch[:0], name); err != nil {
			return nil, err
		}
		w.scratch = name
	}
	if w.json.Dots || w.json.CaseInsensitive {
		w.scratch = w.plainName(name)
		name = w.scratch
	}
	return n.byKey[string(name)], nil
}

// plainName is a name as the tree has it.
func (w *Writer) plainName(name []byte) []byte {
	out := w.scratch[:0]
	for i, c := range name {
		switch {
		case c == '.' && w.json.Dots:
			c = '_'
		case c >= 'A' && c <= 'Z' && w.json.CaseInsensitive:
			c |= 0x20
		case c >= utf8.RuneSelf && w.json.CaseInsensitive:
			rest := strings.ToLower(string(name[i:]))
			if w.json.Dots {
				rest = strings.ReplaceAll(rest, ".", "_")
			}
			return append(out[:i:i], rest...)
		}
		out = append(out, c)
	}
	return out
}

// value reads the value of n; one that is null has level def.
func (w *Writer) value(n *node, rep, def int) error {
	c := w.s.next()
	if c == 'n' {
		if err := w.s.word("null"); err != nil {
			return err
		}
		w.null(n, rep, def)
		return nil
	}
	switch n.typ.Kind {
	case Struct:
		if c != '{' {
			return mismatch(n, "an object")
		}
		return w.object(n, rep, n.def)
	case Array:
		if c != '[' {
			return mismatch(n, "a list")
		}
		return w.list(n, rep)
	case Map:
		if c != '{' {
			return mismatch(n, "an object")
		}
		return w.entries(n, rep)
	}
	return w.leaf(n, c, rep)
}

func mismatch(n *node, want string) error { return fmt.Errorf("column %q: want %s", n.name, want) }

func (w *Writer) list(n *node, rep int) error {
	empty := true
	err := w.s.list(func(i int) error {
		if empty = false; i > 0 {
			rep = n.rep
		}
		return w.value(n.elem, rep, n.def+1)
	})
	if err == nil && empty {
		w.null(n.elem, rep, n.def)
	}
	return err
}

func (w *Writer) entries(n *node, rep int) error {
	i := 0
	err := w.s.object(func(name []byte, escaped bool) error {
		if i++; i > 1 {
			rep = n.rep
		}
		name, err := w.keep(name, escaped)
		if err != nil {
			return err
		}
		v, err := w.convert(n.key, token{text: name, quoted: true})
		if err != nil {
			return err
		}
		w.put(n.key, v, rep)
		return w.value(n.elem, rep, n.def+1)
	})
	if err == nil && i == 0 {
		w.null(n.key, rep, n.def)
		w.null(n.elem, rep, n.def)
	}
	return err
}

// leaf reads a simple value.
func (w *Writer) leaf(n *node, c byte, rep int) error {
	var t token
	switch c {
	case '"':
		text, escaped, err := w.s.text()
		if err != nil {
			return err
		}
		t.quoted = true
		if t.text = text; n.typ.Kind == String || n.typ.Kind == Binary || escaped {
			if t.text, err = w.keep(text, escaped); err != nil {
				return err
			}
		}
	case '{', '[':
		if n.typ.Kind != String {
			return mismatch(n, "a simple value")
		}
		fallthrough
	default:
		raw, err := w.s.raw()
		if err != nil {
			return err
		}
		if t.text = raw; n.typ.Kind == String {
			if t.text, err = w.keep(bytes.TrimSpace(raw), false); err != nil {
				return err
			}
		}
	}
	v, err := w.convert(n, t)
	if err != nil {
		return err
	}
	w.put(n, v, rep)
	return nil
}
