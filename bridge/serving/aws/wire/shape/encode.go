package shape

import (
	"maps"
	"reflect"
	"slices"
	"time"
)

// Encode writes v, a pointer to a struct of the type.
func (t *Type) Encode(w *Writer, v any) { w.value(t.root, reflect.ValueOf(v).Elem()) }

func (w *Writer) value(n *node, v reflect.Value) {
	if n.pointer && v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch n.kind {
	case boolean:
		w.Bool(v.Bool())
	case integer, long:
		w.Int(v.Int())
	case text:
		w.Text(v.String())
	case blob:
		w.Blob(v.Bytes())
	case stamp:
		w.Time(v.Interface().(time.Time))
	case written:
		w.Digits(self(v))
	case list:
		w.OpenList()
		for i := range v.Len() {
			w.Item()
			w.value(n.elem, v.Index(i))
		}
		w.CloseList()
	case dict:
		w.OpenMap()
		all := map[string]reflect.Value{}
		for it := v.MapRange(); it.Next(); {
			all[it.Key().String()] = it.Value()
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			w.Name(name)
			w.value(n.elem, all[name])
		}
		w.CloseMap()
	case structure:
		w.OpenMap()
		w.members(n, v)
		w.CloseMap()
	}
}

func (w *Writer) members(n *node, v reflect.Value) {
	for i := range n.fields {
		if f := &n.fields[i]; !f.node.left(v.FieldByIndex(f.index)) {
			w.Name(f.name)
			w.value(f.node, v.FieldByIndex(f.index))
		}
	}
}

// self is v as what writes itself, without a copy where there is an address.
func self(v reflect.Value) absent {
	if v.CanAddr() {
		v = v.Addr()
	}
	return v.Interface().(absent)
}

// left says whether a member with the value v is not written.
func (n *node) left(v reflect.Value) bool {
	switch {
	case n.kind == list && n.rules != nil && n.rules.required:
		return false
	case n.kind == written && !n.pointer:
		return self(v).IsZero()
	}
	return missing(n, v)
}

// Members writes v's members into a map that is open.
func (t *Type) Members(w *Writer, v any) { w.members(t.root, reflect.ValueOf(v).Elem()) }
