package dynamodb

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

var schema = Schema{{"id", types.ScalarAttributeTypeS}, {"at", types.ScalarAttributeTypeN}}

func TestParse(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for _, c := range []struct {
		name, doc, key, err string
	}{
		{"an item", `{"id":"a","at":1}`, "1:a4:1E+0", ""},
		{"the same key", `{"at":1.00e0,"id":"a","v":[{"x":null}]}`, "1:a4:1E+0", ""},
		{"zero", `{"id":"a","at":-0.0}`, "1:a1:0", ""},
		{"no object", `[]`, "", "want one JSON object"},
		{"null", `null`, "", "want one JSON object"},
		{"two", `{} {}`, "", "want one JSON object"},
		{"key missing", `{"id":"a"}`, "", `key attribute "at": missing`},
		{"key of another type", `{"id":"a","at":"1"}`, "", `key attribute "at": a string, the table wants type N`},
		{"key null", `{"id":null,"at":1}`, "", `key attribute "id": the table wants type S`},
		{"key too long", `{"id":"` + strings.Repeat("k", 2049) + `","at":1}`, "", "2049 bytes, want 1 to 2048"},
		{"39 digits", `{"id":"a","at":1,"v":123456789012345678901234567890123456789}`, "", "39 digits"},
		{"38 digits and zeros", `{"id":"a","at":1,"v":0.0012345678901234567890123456789012345678000}`, "1:a4:1E+0", ""},
		{"too small", `{"id":"a","at":1,"v":1e-131}`, "", "1E-131"},
		{"far too large", `{"id":"a","at":1,"v":1e99999999999}`, "", "out of range"},
		{"too deep", `{"id":"a","at":1,"v":` + deep + `}`, "", "more than 32 levels"},
		{"too large", `{"id":"a","at":1,"v":"` + strings.Repeat("x", 400<<10) + `"}`, "", "want at most 409600"},
	} {
		it, err := schema.Parse([]byte(c.doc))
		switch {
		case err != nil && (c.err == "" || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		case err == nil && (c.err != "" || it.Key() != c.key):
			t.Errorf("%s: key %q, want %q, error %q", c.name, it.Key(), c.key, c.err)
		}
	}
	binary := Schema{{"id", types.ScalarAttributeTypeB}}
	it, err := binary.Parse([]byte(`{"id":"AAE="}`))
	if err != nil || it.Key() != "2:\x00\x01" {
		t.Errorf("binary: %v, %v", it, err)
	}
	if _, err := binary.Parse([]byte(`{"id":"?"}`)); err == nil {
		t.Error("no base64 was taken")
	}
}

// FuzzParse: what is taken becomes the same JSON again, and is no larger in a
// request than Wire says.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"a","at":1.50,"l":[true,null,"x\u0007<"],"m":{"k":-1e-9}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		it, err := schema.Parse(doc)
		if err != nil {
			return
		}
		wire, err := json.Marshal(tagged(it.attributes))
		if err != nil {
			t.Fatal(err)
		}
		if len(wire) > it.Wire()+2 {
			t.Fatalf("%d bytes, said %d: %s", len(wire), it.Wire(), wire)
		}
		again, err := json.Marshal(plain(&types.AttributeValueMemberM{Value: it.attributes}))
		if err != nil {
			t.Fatal(err)
		}
		if other, err := schema.Parse(again); err != nil || other.Key() != it.Key() || other.size != it.size {
			t.Fatalf("%s became %s: %v", doc, again, err)
		}
	})
}

// tagged is the request's form of attributes.
func tagged(m map[string]types.AttributeValue) map[string]any {
	all := map[string]any{}
	for k, v := range m {
		all[k] = tag(v)
	}
	return all
}

func tag(v types.AttributeValue) any {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return map[string]any{"S": v.Value}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberM:
		return map[string]any{"M": tagged(v.Value)}
	case *types.AttributeValueMemberL:
		all := []any{}
		for _, e := range v.Value {
			all = append(all, tag(e))
		}
		return map[string]any{"L": all}
	}
	return map[string]any{"NULL": true}
}

func plain(v types.AttributeValue) any {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return json.Number(v.Value)
	case *types.AttributeValueMemberBOOL:
		return v.Value
	case *types.AttributeValueMemberM:
		all := map[string]any{}
		for k, e := range v.Value {
			all[k] = plain(e)
		}
		return all
	case *types.AttributeValueMemberL:
		all := []any{}
		for _, e := range v.Value {
			all = append(all, plain(e))
		}
		return all
	}
	return nil
}
