package shape

import (
	"errors"
	"fmt"
	"math"
	"reflect"
)

// ErrSyntax is of a body that is no JSON or CBOR, or no map at the top.
var ErrSyntax = errors.New("the body cannot be read")

// A TypeError is about a value that is not of its member's type, in AWS's
// words.
type TypeError string

func (e TypeError) Error() string { return string(e) }

// maxDepth bounds how deep values may be nested; the API's own go to 4.
const maxDepth = 32

// token kinds: what a value is as it was sent.
type tokenKind int

const (
	isNull tokenKind = iota
	isBool
	isNumber
	isText
	isBytes
	isStamp // CBOR tag 1: milliseconds since 1970
	isList
	isMap
)

// A token is a scalar, or the begin of a list or map.
type token struct {
	kind  tokenKind
	yes   bool    // of isBool
	whole bool    // of isNumber: n has it, not f
	n     int64   // isNumber; of a list or map in CBOR: how many elements, -1: not said
	f     float64 // isNumber
	text  []byte  // isText, isBytes
}

// A source gives the tokens of a body.
type source interface {
	next() (token, error)
	// more says whether a list or map, of which i elements are read, has
	// another one, and steps over what is between them.
	more(t token, i int) (bool, error)
	// name reads the name of a map's element.
	name() ([]byte, error)
	// left is how many bytes follow.
	left() int
	// end returns an error if something follows.
	end() error
}

func open(c Codec, body []byte) source {
	if c == CBOR {
		return &cborSource{in: body}
	}
	return &jsonSource{in: body}
}

// Valid says whether body can be read, up to the types of values. It leaves
// body as it is.
func Valid(c Codec, body []byte) bool {
	if c == JSON {
		body = []byte(string(body)) // texts are unescaped in place
	}
	src := open(c, body)
	t, err := src.next()
	if err != nil || t.kind != isMap && t.kind != isList {
		return false
	}
	d := decoder{src: src}
	return d.skip(t, 0) == nil && src.end() == nil
}

// Decode reads body into a new struct of the type and returns a pointer to it.
// Blobs share memory with each other or with body, whose bytes change. Members that are not
// known are left out. Of a list or map that may have at most max elements, one
// more is kept, so that Check sees it. The error is ErrSyntax or a TypeError.
func (t *Type) Decode(c Codec, body []byte) (any, error) {
	src := open(c, body)
	d := decoder{codec: c, src: src}
	first, err := src.next()
	if err != nil || first.kind != isMap && first.kind != isList {
		return nil, ErrSyntax
	}
	v := reflect.New(t.root.goType)
	if err := d.value(t.root, v.Elem(), first, 0); err != nil {
		return nil, ErrSyntax
	}
	if err := src.end(); err != nil {
		return nil, ErrSyntax
	}
	if d.wrong != "" {
		return nil, d.wrong
	}
	return v.Interface(), nil
}

// A decoder reads one body.
type decoder struct {
	codec Codec
	src   source
	wrong TypeError // the first
	arena []byte    // of blobs that were base64
}

// refuse remembers what is wrong with a value's type and steps over the value.
func (d *decoder) refuse(t token, depth int, format string, args ...any) error {
	if d.wrong == "" {
		d.wrong = TypeError(fmt.Sprintf(format, args...))
	}
	return d.skip(t, depth)
}

func (d *decoder) skip(t token, depth int) error {
	if t.kind != isList && t.kind != isMap {
		return nil
	}
	return d.each(t, depth, func(_ int, _ []byte, t token) error { return d.skip(t, depth+1) })
}

// each calls f for the elements of the list or map that t begins.
func (d *decoder) each(t token, depth int, f func(i int, name []byte, t token) error) error {
	if depth >= maxDepth {
		return ErrSyntax
	}
	for i := 0; ; i++ {
		ok, err := d.src.more(t, i)
		if err != nil || !ok {
			return err
		}
		var name []byte
		if t.kind == isMap {
			if name, err = d.src.name(); err != nil {
				return err
			}
		}
		inner, err := d.src.next()
		if err != nil {
			return err
		}
		if err := f(i, name, inner); err != nil {
			return err
		}
	}
}

// value sets v to the value that begins with t. Its error is one of syntax.
func (d *decoder) value(n *node, v reflect.Value, t token, depth int) error {
	if t.kind == isNull {
		v.SetZero()
		return nil
	}
	if n.pointer {
		v.Set(reflect.New(n.goType))
		v = v.Elem()
	}
	switch n.kind {
	case list:
		return d.list(n, v, t, depth)
	case dict:
		return d.dict(n, v, t, depth)
	case structure:
		return d.structure(n, v, t, depth)
	}
	switch t.kind {
	case isList:
		return d.refuse(t, depth, "Start of list found where not expected")
	case isMap:
		return d.refuse(t, depth, "Start of structure or map found where not expected.")
	}
	switch n.kind {
	case boolean:
		return d.boolean(v, t)
	case integer, long:
		return d.number(n, v, t)
	case text:
		if t.kind != isText {
			return d.refuse(t, depth, "class %s can not be converted to an String", t.class())
		}
		v.SetString(string(t.text))
	case blob:
		return d.blob(v, t)
	case stamp:
		return d.stamp(v, t)
	}
	return nil
}

func (d *decoder) structure(n *node, v reflect.Value, t token, depth int) error {
	switch t.kind {
	case isList:
		return d.refuse(t, depth, "Start of list found where not expected")
	case isMap:
	default:
		return d.refuse(t, depth, "Expected null")
	}
	return d.each(t, depth, func(_ int, name []byte, t token) error {
		f := n.byName[string(name)]
		if f == nil {
			return d.skip(t, depth+1)
		}
		return d.value(f.node, v.FieldByIndex(f.index), t, depth+1)
	})
}

// most is how many elements are kept.
func (n *node) most() int {
	if n.rules == nil || n.rules.max < 0 {
		return math.MaxInt
	}
	return int(n.rules.max) + 1
}

func (d *decoder) list(n *node, v reflect.Value, t token, depth int) error {
	switch t.kind {
	case isMap:
		return d.refuse(t, depth, "Start of structure or map found where not expected.")
	case isList:
	default:
		return d.refuse(t, depth, "Expected list or null")
	}
	most := n.most()
	all := reflect.MakeSlice(n.goType, 0, 0)
	v.Set(all) // grown in place: elements are set through it
	err := d.each(t, depth, func(i int, _ []byte, t token) error {
		if i >= most {
			return d.skip(t, depth+1)
		}
		if i == v.Cap() {
			v.Grow(max(4, i))
		}
		v.SetLen(i + 1)
		return d.value(n.elem, v.Index(i), t, depth+1)
	})
	return err
}

func (d *decoder) dict(n *node, v reflect.Value, t token, depth int) error {
	switch t.kind {
	case isList:
		return d.refuse(t, depth, "Start of list found where not expected")
	case isMap:
	default:
		return d.refuse(t, depth, "Expected map or null")
	}
	most := n.most()
	v.Set(reflect.MakeMap(n.goType))
	return d.each(t, depth, func(_ int, name []byte, t token) error {
		key := reflect.ValueOf(string(name))
		if v.Len() >= most && !v.MapIndex(key).IsValid() {
			return d.skip(t, depth+1)
		}
		inner := reflect.New(n.goType.Elem()).Elem()
		if err := d.value(n.elem, inner, t, depth+1); err != nil {
			return err
		}
		v.SetMapIndex(key, inner)
		return nil
	})
}
