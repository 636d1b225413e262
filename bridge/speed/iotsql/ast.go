package iotsql

// A query is a SELECT, the statement's own or a nested one.
type query struct {
	pos, end int
	value    bool // SELECT VALUE
	items    []item
	filter   string // FROM of a statement; "" if none
	hasFrom  bool
	from     *node  // FROM of a nested query
	alias    string // of the element in a nested query
	where    *node
	sets     []assignment // statements only
}

// An assignment is one @name = expr of SET.
type assignment struct {
	name string
	expr *node
}

// An item is one member of a SELECT list.
type item struct {
	expr *node
	end  int
	name []string // the alias, split at its dots, or the name it goes by without one; nil for VALUE and what is spread
}

// spread reports whether the item of a list stands for the members of an
// object: * and path.* without an alias.
func (it *item) spread() bool {
	return it.name == nil && (it.expr.op == opStar || it.expr.op == opSpread)
}

// lone reports whether SELECT has nothing but *.
func (q *query) lone() bool {
	for _, it := range q.items {
		if it.expr.op != opStar || it.name != nil {
			return false
		}
	}
	return true
}

type op uint8

const (
	opLit    op = iota // val
	opAttr             // text: a member of the payload or of a nested query's element
	opVar              // text: a SET variable
	opMember           // kids[0] . text
	opCall             // fn(kids)
	opCast             // kids[0] AS text, a key of castTypes
	opCase             // kids: subject, when, then, ..., and else if odd
	opArray            // [kids]
	opObject           // {names[i]: kids[i]}
	opQuery            // (SELECT ...)
	opExists           // EXISTS (SELECT ...)
	opNeg              // - kids[0]
	opNot              // NOT kids[0]
	opBinary           // kids[0] text kids[1]
	opStar             // the whole payload, or the element of a nested query
	opSpread           // kids[0].*: an Object
	opBytes            // * as the payload's bytes, for encode and decode of protobuf
)

type node struct {
	op       op
	pos, end int // byte range in the text
	text     string
	val      value
	kids     []*node
	names    []string
	fn       *function
	sub      *query
}
