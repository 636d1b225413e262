// Package protojson writes protobuf messages as ProtoJSON (protobuf.dev,
// ProtoJSON Format) by a descriptor set that, like the messages, may come from
// foreign hands. It has the same answers as the library's package of this name
// (google.golang.org/protobuf/encoding/protojson, UseProtoNames), by which it is
// tested, but a limit as well: a few bytes of packed enums can stand for a name
// each, and it never panics.
//
// 64-bit integers are strings, enums their names, bytes base64, maps objects,
// timestamps and the other well-known types their own forms. A field without
// presence that has its default is left out, and so are unknown fields and
// extensions. Members have the names that the file spells.
package protojson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	library "google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxNesting is how deep messages may be nested, google.protobuf.Any included:
// what the C++ and Java libraries allow by default.
const maxNesting = 100

// ErrTooLarge says that the JSON would be longer than the caller takes.
var ErrTooLarge = errors.New("protojson: the message is too large")

// Append decodes b, a message of type md of this schema, and appends it to dst
// as JSON of at most max bytes. After an error dst comes back as it was:
// ErrTooLarge, or what is wrong with b.
func (s *Schema) Append(dst []byte, md protoreflect.MessageDescriptor, b []byte, max int) ([]byte, error) {
	if len(b) > max {
		return dst, ErrTooLarge
	}
	m, err := unmarshal(md, b, maxNesting)
	if err != nil {
		return dst, err
	}
	w := writer{schema: s, dst: dst, from: len(dst), max: max}
	if w.message(m, maxNesting); w.err != nil {
		return dst, w.err
	}
	return w.dst, nil
}

// noExtensions resolves none: fields of extensions are left out like unknown ones.
var noExtensions = new(protoregistry.Types)

// unmarshal decodes foreign bytes. The library (v1.36.12) panics at a map entry
// whose key comes twice, the second time with a wrong wire type.
func unmarshal(md protoreflect.MessageDescriptor, b []byte, depth int) (_ protoreflect.Message, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the message is malformed: %v", fault)
		}
	}()
	m := dynamicpb.NewMessage(md)
	err = proto.UnmarshalOptions{DiscardUnknown: true, Resolver: noExtensions, RecursionLimit: depth}.Unmarshal(b, m)
	return m, err
}

// A writer writes messages.
type writer struct {
	schema    *Schema
	dst       []byte
	from, max int
	err       error
}

var errDepth = fmt.Errorf("messages are nested deeper than %d levels", maxNesting)

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// full checks the limits; nothing more is written then.
func (w *writer) full() bool {
	if len(w.dst)-w.from > w.max {
		w.fail(ErrTooLarge)
	}
	return w.err != nil
}

func (w *writer) message(m protoreflect.Message, depth int) {
	if depth <= 0 {
		w.fail(errDepth)
	}
	if w.full() {
		return
	}
	switch name := m.Descriptor().FullName(); {
	case name == "google.protobuf.Any":
		w.any(m, depth)
	case wellKnown[name] != nil:
		w.known(m, wellKnown[name]())
	default:
		w.dst = append(w.dst, '{')
		w.fields(m, depth)
		w.dst = append(w.dst, '}')
	}
}

// fields writes the members for the fields that are set, in the order of the
// file. Where a field has no presence, its default counts as not set.
func (w *writer) fields(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		w.key(string(fd.Name()))
		v := m.Get(fd)
		switch {
		case fd.IsMap():
			w.mapOf(fd, v.Map(), depth)
		case fd.IsList():
			w.dst = append(w.dst, '[')
			for i, list := 0, v.List(); i < list.Len() && !w.full(); i++ {
				if i > 0 {
					w.dst = append(w.dst, ',')
				}
				w.value(fd, list.Get(i), depth)
			}
			w.dst = append(w.dst, ']')
		default:
			w.value(fd, v, depth)
		}
		if w.full() {
			return
		}
	}
}

// key writes a member's name, after a comma if it is not the first.
func (w *writer) key(name string) {
	if w.dst[len(w.dst)-1] != '{' {
		w.dst = append(w.dst, ',')
	}
	w.dst = append(appendQuoted(w.dst, name), ':')
}

// mapOf writes the entries of a map in the order of their keys.
func (w *writer) mapOf(fd protoreflect.FieldDescriptor, m protoreflect.Map, depth int) {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	w.dst = append(w.dst, '{')
	for _, k := range keys {
		if w.full() {
			return
		}
		w.key(k.String())
		w.value(fd.MapValue(), m.Get(k), depth)
	}
	w.dst = append(w.dst, '}')
}

// value writes one value of a field.
func (w *writer) value(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		w.dst = strconv.AppendBool(w.dst, v.Bool())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		w.dst = strconv.AppendInt(w.dst, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		w.dst = strconv.AppendUint(w.dst, v.Uint(), 10)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		w.dst = append(strconv.AppendInt(append(w.dst, '"'), v.Int(), 10), '"')
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		w.dst = append(strconv.AppendUint(append(w.dst, '"'), v.Uint(), 10), '"')
	case protoreflect.FloatKind:
		w.float(v.Float(), 32)
	case protoreflect.DoubleKind:
		w.float(v.Float(), 64)
	case protoreflect.StringKind:
		w.dst = appendQuoted(w.dst, strings.ToValidUTF8(v.String(), "\uFFFD"))
	case protoreflect.BytesKind:
		w.dst = append(base64.StdEncoding.AppendEncode(append(w.dst, '"'), v.Bytes()), '"')
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil && fd.Enum().FullName() != "google.protobuf.NullValue" {
			w.dst = appendQuoted(w.dst, string(e.Name()))
		} else if e != nil {
			w.dst = append(w.dst, "null"...)
		} else {
			w.dst = strconv.AppendInt(w.dst, int64(v.Enum()), 10)
		}
	default:
		w.message(v.Message(), depth-1)
	}
}

func (w *writer) float(x float64, bits int) {
	switch {
	case math.IsNaN(x):
		w.dst = append(w.dst, `"NaN"`...)
	case math.IsInf(x, 1):
		w.dst = append(w.dst, `"Infinity"`...)
	case math.IsInf(x, -1):
		w.dst = append(w.dst, `"-Infinity"`...)
	default:
		format := byte('f')
		if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e21) {
			format = 'e'
		}
		w.dst = strconv.AppendFloat(w.dst, x, format, -1, bits)
	}
}

// wellKnown are the messages with a JSON form of their own.
var wellKnown = map[protoreflect.FullName]func() proto.Message{
	"google.protobuf.Timestamp":   func() proto.Message { return new(timestamppb.Timestamp) },
	"google.protobuf.Duration":    func() proto.Message { return new(durationpb.Duration) },
	"google.protobuf.Empty":       func() proto.Message { return new(emptypb.Empty) },
	"google.protobuf.FieldMask":   func() proto.Message { return new(fieldmaskpb.FieldMask) },
	"google.protobuf.Struct":      func() proto.Message { return new(structpb.Struct) },
	"google.protobuf.Value":       func() proto.Message { return new(structpb.Value) },
	"google.protobuf.ListValue":   func() proto.Message { return new(structpb.ListValue) },
	"google.protobuf.BoolValue":   func() proto.Message { return new(wrapperspb.BoolValue) },
	"google.protobuf.Int32Value":  func() proto.Message { return new(wrapperspb.Int32Value) },
	"google.protobuf.UInt32Value": func() proto.Message { return new(wrapperspb.UInt32Value) },
	"google.protobuf.Int64Value":  func() proto.Message { return new(wrapperspb.Int64Value) },
	"google.protobuf.UInt64Value": func() proto.Message { return new(wrapperspb.UInt64Value) },
	"google.protobuf.FloatValue":  func() proto.Message { return new(wrapperspb.FloatValue) },
	"google.protobuf.DoubleValue": func() proto.Message { return new(wrapperspb.DoubleValue) },
	"google.protobuf.StringValue": func() proto.Message { return new(wrapperspb.StringValue) },
	"google.protobuf.BytesValue":  func() proto.Message { return new(wrapperspb.BytesValue) },
}

// known writes m by way of the type that the library has for it: what a
// descriptor set says of such a message is foreign, and the library trusts it.
func (w *writer) known(m protoreflect.Message, as proto.Message) {
	b, err := proto.Marshal(m.Interface())
	if err == nil {
		err = proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxNesting}.Unmarshal(b, as)
	}
	if err == nil {
		b, err = library.Marshal(as)
	}
	if err != nil {
		w.fail(err)
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		w.fail(err)
		return
	}
	w.dst = append(w.dst, compact.Bytes()...)
}

var errAny = errors.New("google.protobuf.Any has a type that the descriptor set lacks")

// any writes the message within an Any, and its type as the member @type.
func (w *writer) any(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	typ, val := fields.ByNumber(1), fields.ByNumber(2)
	if typ == nil || val == nil || typ.Kind() != protoreflect.StringKind || val.Kind() != protoreflect.BytesKind ||
		typ.IsList() || val.IsList() {
		w.fail(errAny)
		return
	}
	w.dst = append(w.dst, '{')
	url := m.Get(typ).String()
	if url == "" && len(m.Get(val).Bytes()) == 0 {
		w.dst = append(w.dst, '}')
		return
	}
	d, err := w.schema.files.FindDescriptorByName(protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:]))
	md, ok := d.(protoreflect.MessageDescriptor)
	if err != nil || !ok {
		w.fail(errAny)
		return
	}
	inner, err := unmarshal(md, m.Get(val).Bytes(), depth)
	if err != nil {
		w.fail(err)
		return
	}
	w.key("@type")
	w.dst = appendQuoted(w.dst, url)
	if wellKnown[md.FullName()] != nil || md.FullName() == "google.protobuf.Any" {
		w.key("value")
		w.message(inner, depth-1)
	} else if depth > 1 {
		w.fields(inner, depth-1)
	} else {
		w.fail(errDepth)
	}
	w.dst = append(w.dst, '}')
}

// appendQuoted appends s, which is valid UTF-8, as a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
