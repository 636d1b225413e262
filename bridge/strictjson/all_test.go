package strictjson

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
)

// A shout takes texts in capitals only.
type shout string

// UnmarshalJSON implements json.Unmarshaler.
func (s *shout) UnmarshalJSON(raw []byte) error {
	if string(raw) == `"A"` {
		*s = "A"
		return nil
	}
	return errors.New("want A")
}

type base struct{ Shared string }

type document struct {
	base
	Name  string
	Raw   json.RawMessage
	Data  []byte
	Tags  map[string]string
	Loud  shout
	Count *int
	In    *struct{ Size int }
	List  []struct{ Key string }
}

func TestAll(t *testing.T) {
	for doc, want := range map[string][]string{
		`{"Name":"n","Raw":{"x":[1]},"Data":"AA==","Tags":{"a":"b"},"Loud":"A","Count":1,"In":{"Size":2},` +
			`"List":[{"Key":"k"}],"Shared":"s"}`: nil,
		`{"Name":null,"In":null,"List":null,"Loud":null}`: nil,
		`{}`:   nil,
		``:     {"the document is empty"},
		`[]`:   {"the document: want an object"},
		`null`: {"the document: want an object"},
		`{} x`: {"line 1, column 4: no JSON: unexpected 'x'"},
		`{"name":"n","In":{"Siz":1,"Size":"2"},"List":[{"Key":1},5,{"Kex":""}],"Name":3,"base":{}}`: {
			"In.Siz: unknown member", "In.Size: is a text, want a whole number", "List[0].Key: is a number, want a text",
			"List[1]: want an object", "List[2].Kex: unknown member", "Name: is a number, want a text",
			"base: unknown member", "name: unknown member"},
		`{"Loud":"a","Count":1.5,"List":{},"Tags":[],"Data":1}`: {"Count: is 1.5, want a whole number",
			"Data: is a number, want a text in base64", "List: is an object, want a list", "Loud: want A",
			"Tags: is a list, want an object"},
	} {
		var got []string
		for _, err := range All([]byte(doc), new(document)) {
			got = append(got, err.Error())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", doc, got, want)
		}
	}
}

// Whatever All takes, Decode takes too, and makes the same of it.
func FuzzAll(f *testing.F) {
	f.Add([]byte(`{"Name":"n","In":{"Size":2},"List":[{"Key":"k"}],"Count":3}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var a, b document
		if All(doc, &a) != nil {
			return
		}
		if err := Decode(doc, &b); err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
	})
}
