// Package strictjson reads documents that people write: one JSON value of known
// members, and errors in the document's words, not in those of encoding/json,
// which speak of Go's types.
package strictjson

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Decode reads doc, one JSON value and nothing else, of members known to into.
// Errors are Explain's.
func Decode(doc []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return Explain(doc, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%s: want one JSON value and no more", place(doc, dec.InputOffset()+1))
	}
	return nil
}

// Explain says what an error of encoding/json means for the writer of doc: where
// it is, by line and column (from 1, in characters) or by the member's path, and
// what is wanted there. Other errors, and nil, come back as they are.
func Explain(doc []byte, err error) error {
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		text := "is " + said(t.Value) + ", want " + cmp.Or(fitting(t), wanted(t.Type))
		if t.Field != "" {
			text = t.Field + " " + text
		} else {
			text = "it " + text
		}
		return fmt.Errorf("%s: %s", place(doc, t.Offset), text)
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		if s.Offset >= int64(len(doc)) && strings.HasPrefix(s.Error(), "unexpected end") {
			return early(doc)
		}
		at := max(0, min(int(s.Offset)-1, len(doc)))
		r, _ := utf8.DecodeRune(doc[at:])
		return fmt.Errorf("%s: no JSON: unexpected %q", place(doc, s.Offset), r)
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return early(doc)
	case errors.Is(err, io.EOF):
		return errors.New("the document is empty")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok { // encoding/json has no type for it
		return fmt.Errorf("%s: unknown member", strings.Trim(name, `"`))
	}
	return err
}

func early(doc []byte) error {
	if len(bytes.TrimSpace(doc)) == 0 {
		return errors.New("the document is empty")
	}
	return fmt.Errorf("%s: the document ends too early", place(doc, int64(len(doc))))
}

// place is where the byte before an offset is.
func place(doc []byte, offset int64) string {
	before := doc[:max(0, min(int(offset)-1, len(doc)))]
	line := before[1+bytes.LastIndexByte(before, '\n'):]
	return fmt.Sprintf("line %d, column %d", 1+bytes.Count(before, []byte("\n")), 1+utf8.RuneCount(line))
}

// said is what UnmarshalTypeError calls the value in the document.
func said(value string) string {
	switch value {
	case "string":
		return "a text"
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "bool":
		return "true or false"
	}
	if n, ok := strings.CutPrefix(value, "number "); ok {
		return n
	}
	return "a " + value
}

// fitting is what is wanted in place of a number that its type cannot hold; "": it is
// of the wrong kind.
func fitting(e *json.UnmarshalTypeError) string {
	n, ok := strings.CutPrefix(e.Value, "number ")
	if !ok {
		return ""
	}
	whole := !strings.ContainsAny(n, ".eE")
	switch k := e.Type.Kind(); {
	case k == reflect.Float32:
		return fmt.Sprintf("a number up to %.2g", math.MaxFloat32)
	case k == reflect.Float64:
		return fmt.Sprintf("a number up to %.2g", math.MaxFloat64)
	case whole && k >= reflect.Int && k <= reflect.Int64:
		bits := e.Type.Bits() - 1
		return fmt.Sprintf("a whole number from %d to %d", int64(-1)<<bits, uint64(1)<<bits-1)
	case whole && k >= reflect.Uint && k <= reflect.Uintptr && n[0] != '-':
		return fmt.Sprintf("a whole number up to %d", uint64(math.MaxUint64)>>(64-e.Type.Bits()))
	}
	return ""
}

func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case k == reflect.String:
		return "a text"
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Int && k <= reflect.Int64:
		return "a whole number"
	case k >= reflect.Uint && k <= reflect.Uintptr:
		return "a whole number, not negative"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "a text in base64"
	case k == reflect.Slice || k == reflect.Array:
		return "a list"
	}
	return "an object"
}
