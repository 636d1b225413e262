package convert

import (
	"fmt"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// An ordered group has its fields as the table has them; parquet.Group sorts them.
type ordered struct {
	parquet.Group
	names []string
}

// Fields implements parquet.Node.
func (o ordered) Fields() []parquet.Field {
	by := make(map[string]parquet.Field, len(o.names))
	for _, f := range o.Group.Fields() {
		by[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.names))
	for i, n := range o.names {
		fields[i] = by[n]
	}
	return fields
}

// A node is a part of the table's tree, with how values of it are written.
type node struct {
	name   string
	typ    Type
	column int // of a leaf, in the file
	def    int // definition level of a value
	rep    int // repetition level of all but the first element within it (Array, Map)

	fields []*node          // of Struct
	byKey  map[string]*node // of Struct: by the member's name in records
	key    *node            // of Map
	isKey  bool             // it is one
	elem   *node            // of Array and Map
	member string           // of a field of Struct: its name in records
	first  *node            // of Struct: the field that was first in the last record
	after  *node            // the field that followed there
	seen   uint64           // stamp of the object that had it last
}

// A schemer builds nodes and Parquet's schema side by side.
type schemer struct {
	json    JSON
	dict    bool
	columns int
}

// schema returns the tree of a table and its Parquet schema.
func schema(t *Table, j JSON, p Parquet) (root *node, s *parquet.Schema, columns int) {
	b := schemer{json: j, dict: p.Dictionary}
	root = &node{name: t.Name, typ: Type{Kind: Struct, Fields: t.Columns}}
	group := b.group(root, 0, 0, true)
	return root, parquet.NewSchema("hive_schema", group), b.columns
}

// group builds the fields of n.
func (b *schemer) group(n *node, def, rep int, top bool) parquet.Node {
	g := ordered{Group: parquet.Group{}}
	n.byKey = map[string]*node{}
	for _, f := range n.typ.Fields {
		child := &node{name: f.Name, typ: f.Type}
		g.Group[f.Name] = parquet.Optional(b.build(child, def+1, rep))
		g.names = append(g.names, f.Name)
		n.fields = append(n.fields, child)
		child.member = b.key(f.Name, top)
		n.byKey[child.member] = child
	}
	return g
}

// key is the member's name that a column is read from, as names are compared.
func (b *schemer) key(column string, top bool) string {
	if k, ok := b.json.Keys[column]; ok && top {
		column = k
	}
	if b.json.CaseInsensitive {
		column = strings.ToLower(column)
	}
	return column
}

// build builds n, whose value has level def.
func (b *schemer) build(n *node, def, rep int) parquet.Node {
	n.def = def
	switch n.typ.Kind {
	case Struct:
		return b.group(n, def, rep, false)
	case Array:
		n.rep = rep + 1
		n.elem = &node{name: "element", typ: *n.typ.Elem}
		return parquet.List(parquet.Optional(b.build(n.elem, def+2, rep+1)))
	case Map:
		n.rep = rep + 1
		n.key, n.elem = &node{name: "key", typ: *n.typ.Key, isKey: true}, &node{name: "value", typ: *n.typ.Elem}
		key := b.build(n.key, def+1, rep+1)
		return parquet.Map(key, parquet.Optional(b.build(n.elem, def+2, rep+1)))
	}
	n.column = b.columns
	b.columns++
	leaf := leafNode(n.typ)
	if b.dict && n.typ.Kind == String {
		leaf = parquet.Encoded(leaf, &parquet.RLEDictionary)
	}
	return leaf
}

// leafNode is a simple type in Parquet. Times are microseconds in no time zone, as
// Hive's are; decimals have the smallest type that holds them.
func leafNode(t Type) parquet.Node {
	switch t.Kind {
	case Boolean:
		return parquet.Leaf(parquet.BooleanType)
	case TinyInt:
		return parquet.Int(8)
	case SmallInt:
		return parquet.Int(16)
	case Int:
		return parquet.Leaf(parquet.Int32Type)
	case BigInt:
		return parquet.Leaf(parquet.Int64Type)
	case Float:
		return parquet.Leaf(parquet.FloatType)
	case Double:
		return parquet.Leaf(parquet.DoubleType)
	case Decimal:
		return parquet.Decimal(t.Scale, t.Precision, decimalType(t.Precision))
	case String:
		return parquet.String()
	case Binary:
		return parquet.Leaf(parquet.ByteArrayType)
	case Date:
		return parquet.Date()
	case Timestamp:
		return parquet.TimestampAdjusted(parquet.Microsecond, false)
	}
	panic(fmt.Sprintf("no simple type: %d", t.Kind)) // the caller took the others
}

func decimalType(precision int) parquet.Type {
	switch {
	case precision <= 9:
		return parquet.Int32Type
	case precision <= 18:
		return parquet.Int64Type
	}
	return parquet.FixedLenByteArrayType(16)
}
