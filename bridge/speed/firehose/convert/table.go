package convert

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A Table is a schema as AWS Glue keeps it: columns with Hive's types.
type Table struct {
	Database, Name, VersionID string
	Columns                   []Column
}

// A Column is one of a Table. Its name is in lower case, as Glue has it.
type Column struct {
	Name string
	Type Type
}

// A Kind is what a type is.
type Kind int

// The kinds of Hive's types that are served. Their numbers are durable, in plans of
// delivery streams: a new one goes to the end.
const (
	Boolean Kind = iota
	TinyInt
	SmallInt
	Int
	BigInt
	Float
	Double
	Decimal
	String // and varchar, char
	Binary
	Date
	Timestamp
	Array
	Map
	Struct
)

// A Type is a column's.
type Type struct {
	Kind             Kind
	Precision, Scale int      // of Decimal
	Length           int      // of varchar and char; 0: any
	Elem             *Type    // of Array and Map (its values)
	Key              *Type    // of Map
	Fields           []Column // of Struct
}

// plain are the types of one word.
var plain = map[string]Kind{"boolean": Boolean, "tinyint": TinyInt, "smallint": SmallInt, "int": Int, "integer": Int,
	"bigint": BigInt, "float": Float, "double": Double, "string": String, "binary": Binary, "date": Date,
	"timestamp": Timestamp}

// Bounds of a table, so that a file of one cannot take the bridge's memory.
const (
	maxColumns = 2000
	maxNesting = 20
)

// columnForm is what a column may be called.
var columnForm = regexp.MustCompile(`^[^\x00-\x1f,:<>/]{1,255}$`)

// ParseTable reads a table as ParseGlue does, and the types of its columns.
func ParseTable(doc []byte) (*Table, error) {
	g, err := ParseGlue(doc)
	if err != nil {
		return nil, err
	}
	return g.Table()
}

// Table is the schema of a table.
func (g *Glue) Table() (*Table, error) {
	t := &Table{Database: g.DatabaseName, Name: g.Name, VersionID: g.VersionId}
	if t.Name == "" || t.Database == "" {
		return nil, fmt.Errorf("table %q: want a Name and a DatabaseName", t.Name)
	}
	seen := map[string]bool{}
	for _, c := range g.StorageDescriptor.Columns {
		typ, err := parseType(c.Type)
		name := strings.ToLower(c.Name)
		if err == nil && (seen[name] || !columnForm.MatchString(name)) {
			err = fmt.Errorf("the name is there twice, or has a character that cannot be")
		}
		if err != nil {
			return nil, fmt.Errorf("table %s.%s: column %.100q: %w", t.Database, t.Name, c.Name, err)
		}
		seen[name] = true
		t.Columns = append(t.Columns, Column{name, typ})
	}
	if n := len(t.Columns); n == 0 || n > maxColumns {
		return nil, fmt.Errorf("table %s.%s: %d columns, want 1 to %d", t.Database, t.Name, n, maxColumns)
	}
	return t, nil
}

// parseType reads a type of Hive.
func parseType(text string) (Type, error) {
	p := typeParser{rest: strings.ToLower(strings.ReplaceAll(text, " ", ""))}
	t, err := p.one(0)
	if err == nil && p.rest != "" {
		err = fmt.Errorf("type %.100q: %.20q is too much", text, p.rest)
	}
	return t, err
}

type typeParser struct {
	rest   string
	fields int
}

// word reads what is before any of < > ( ) : and ,.
func (p *typeParser) word() string {
	n := strings.IndexAny(p.rest, "<>():,")
	if n < 0 {
		n = len(p.rest)
	}
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

func (p *typeParser) skip(c string) bool {
	rest, ok := strings.CutPrefix(p.rest, c)
	p.rest = rest
	return ok
}

func (p *typeParser) one(depth int) (t Type, err error) {
	if depth > maxNesting {
		return t, fmt.Errorf("a type nests deeper than %d", maxNesting)
	}
	name := p.word()
	kind, ok := plain[name]
	if ok {
		return Type{Kind: kind}, nil
	}
	switch name {
	case "decimal":
		return p.decimal()
	case "varchar", "char":
		n, err := p.numbers(1)
		if err != nil || n[0] < 1 || n[0] > 65535 {
			return t, fmt.Errorf("%s: want a length of 1 to 65535", name)
		}
		return Type{Kind: String, Length: n[0]}, nil
	case "array":
		return p.nested(name, func() error {
			t.Kind, t.Elem = Array, new(Type)
			*t.Elem, err = p.one(depth + 1)
			return err
		}, &t)
	case "map":
		return p.nested(name, func() error { return p.entries(&t, depth) }, &t)
	case "struct":
		return p.nested(name, func() error { return p.members(&t, depth) }, &t)
	}
	return t, fmt.Errorf("type %.100q is not served", name)
}

// nested reads what stands between < and >.
func (p *typeParser) nested(name string, inner func() error, t *Type) (Type, error) {
	if !p.skip("<") {
		return *t, fmt.Errorf("%s: want <", name)
	}
	if err := inner(); err != nil {
		return *t, err
	}
	if !p.skip(">") {
		return *t, fmt.Errorf("%s: want >", name)
	}
	return *t, nil
}

func (p *typeParser) entries(t *Type, depth int) (err error) {
	t.Kind, t.Key, t.Elem = Map, new(Type), new(Type)
	if *t.Key, err = p.one(depth + 1); err != nil {
		return err
	}
	if t.Key.Kind >= Array {
		return fmt.Errorf("map: the key is no simple type")
	}
	if !p.skip(",") {
		return fmt.Errorf("map: want a key and a value")
	}
	*t.Elem, err = p.one(depth + 1)
	return err
}

func (p *typeParser) members(t *Type, depth int) error {
	t.Kind = Struct
	for {
		name := p.word()
		for _, f := range t.Fields {
			if f.Name == name {
				return fmt.Errorf("struct: %.100q is there twice", name)
			}
		}
		if p.fields++; p.fields > maxColumns || !columnForm.MatchString(name) || !p.skip(":") {
			return fmt.Errorf("struct: want NAME:TYPE, at most %d", maxColumns)
		}
		field, err := p.one(depth + 1)
		if err != nil {
			return err
		}
		t.Fields = append(t.Fields, Column{name, field})
		if !p.skip(",") {
			return nil
		}
	}
}

// decimal is of (10,0) where it is not said (Hive).
func (p *typeParser) decimal() (Type, error) {
	t := Type{Kind: Decimal, Precision: 10}
	if !strings.HasPrefix(p.rest, "(") {
		return t, nil
	}
	n, err := p.numbers(2)
	if err != nil {
		return t, fmt.Errorf("decimal: want (PRECISION,SCALE)")
	}
	t.Precision = n[0]
	if len(n) > 1 {
		t.Scale = n[1]
	}
	if t.Precision < 1 || t.Precision > 38 || t.Scale < 0 || t.Scale > t.Precision {
		return t, fmt.Errorf("decimal: want a precision of 1 to 38, and a scale within it")
	}
	return t, nil
}

// numbers reads up to most of them, in parentheses.
func (p *typeParser) numbers(most int) (n []int, err error) {
	if !p.skip("(") {
		return nil, fmt.Errorf("want (")
	}
	for {
		v, err := strconv.Atoi(p.word())
		if err != nil || len(n) == most {
			return nil, fmt.Errorf("want a number")
		}
		n = append(n, v)
		if p.skip(")") {
			return n, nil
		}
		if !p.skip(",") {
			return nil, fmt.Errorf("want )")
		}
	}
}
