package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	type inner struct {
		Count *int32
		Tags  map[string]string
		Data  []byte
	}
	for doc, want := range map[string]string{
		`{"Name":"a","In":{"Count":3}}`:         "",
		``:                                      "the document is empty",
		" \n":                                   "the document is empty",
		`{"Name":"a"`:                           "line 1, column 11: the document ends too early",
		`{"Name":tru`:                           "line 1, column 11: the document ends too early",
		"{\n  \"Name\": \"a\",\n}":              "line 3, column 1: no JSON: unexpected '}'",
		`{"Nämé":ö}`:                            "line 1, column 9: no JSON: unexpected 'ö'",
		`{"Nam":"a"}`:                           "Nam: unknown member",
		`{"In":{"Count":"3"}}`:                  "In.Count is a text, want a whole number",
		`{"In":{"Count":1.5}}`:                  "In.Count is 1.5, want a whole number",
		`{"In":{"Count":[1]}}`:                  "In.Count is a list, want a whole number",
		`{"In":{"Tags":[]}}`:                    "In.Tags is a list, want an object",
		`{"In":{"Data":5}}`:                     "In.Data is a number, want a text in base64",
		`{"Name":{}}`:                           "Name is an object, want a text",
		`{"On":"yes"}`:                          "On is a text, want true or false",
		`{"List":true}`:                         "List is true or false, want a list",
		`{"Size":-1}`:                           "Size is -1, want a whole number, not negative",
		`{"In":{"Count":3000000000}}`:           "In.Count is 3000000000, want a whole number from -2147483648 to 2147483647",
		`{"Size":18446744073709551616}`:         "Size is 18446744073709551616, want a whole number up to 18446744073709551615",
		`{"Part":1e400}`:                        "Part is 1e400, want a number up to 1.8e+308",
		`[]`:                                    "it is a list, want an object",
		`{"Name":"a"} {}`:                       "want one JSON value and no more",
		"{\"Name\":\"a\"}\n x":                  "want one JSON value and no more",
		`{"Name":"` + "\x01" + `"}`:             `no JSON: unexpected '\x01'`,
		strings.Repeat("\n", 4) + `{"Size":""}`: "line 5, column 10: Size is a text",
	} {
		var into struct {
			Name string
			In   inner
			On   bool
			List []string
			Size uint
			Part float64
		}
		err := Decode([]byte(doc), &into)
		if want == "" && err == nil {
			continue
		}
		if want == "" || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", doc, err, want)
			continue
		}
		for _, word := range []string{"json:", "Go ", "unmarshal", "EOF", "struct"} {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%q: %v", doc, err)
			}
		}
	}
}

// Whatever the bytes are, nothing panics, and what is taken is what encoding/json
// takes.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte("{\"a\":\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var v json.RawMessage // any holds no 1e999
		if err := Decode(doc, &v); (err == nil) != json.Valid(doc) {
			t.Fatalf("%q: %v", doc, err)
		}
	})
}
