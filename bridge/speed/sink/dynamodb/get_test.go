package dynamodb

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func TestAppendObject(t *testing.T) {
	type M = map[string]types.AttributeValue
	deep := types.AttributeValue(&types.AttributeValueMemberNULL{Value: true})
	for range maxDepth {
		deep = &types.AttributeValueMemberL{Value: []types.AttributeValue{deep}}
	}
	for _, c := range []struct {
		in   M
		want string // "": an error
	}{
		{M{}, `{}`},
		{M{"b": &types.AttributeValueMemberS{Value: "x\"\n"}, "a": &types.AttributeValueMemberN{Value: "-1.50E+3"}},
			`{"a":-1.50E+3,"b":"x\"\n"}`},
		{M{"l": &types.AttributeValueMemberL{Value: []types.AttributeValue{&types.AttributeValueMemberBOOL{Value: true},
			&types.AttributeValueMemberNULL{Value: true}, &types.AttributeValueMemberB{Value: []byte("hi")}}}},
			`{"l":[true,null,"aGk="]}`},
		{M{"m": &types.AttributeValueMemberM{Value: M{"s": &types.AttributeValueMemberSS{Value: []string{"a", "b"}},
			"n": &types.AttributeValueMemberNS{Value: []string{"1", "2.0"}},
			"b": &types.AttributeValueMemberBS{Value: [][]byte{{0}, {1}}}}}},
			`{"m":{"b":["AA==","AQ=="],"n":[1,2.0],"s":["a","b"]}}`},
		{M{"n": &types.AttributeValueMemberN{Value: "NaN"}}, ""},
		{M{"n": &types.AttributeValueMemberN{Value: "true"}}, ""},
		{M{"n": &types.AttributeValueMemberN{Value: ""}}, ""},
		{M{"n": &types.AttributeValueMemberN{Value: "1,\"x\":2"}}, ""},
		{M{"s": &types.AttributeValueMemberS{Value: "\xff"}}, ""},
		{M{"x": nil}, ""},
		{M{"deep": deep}, ""},
	} {
		got, err := appendObject(nil, c.in, 1)
		if string(got) != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, errNoValue) {
			t.Errorf("%s, %v; want %s", got, err, c.want)
		}
	}
}

// What an item is made of comes back.
func FuzzItemJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2.5e3,null,true,{"b":"é\u0000"}],"":{}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		it, err := Schema(nil).Parse(in)
		if err != nil {
			return
		}
		out, err := appendObject(nil, it.attributes, 1)
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		var a, b any
		if json.Unmarshal(in, &a) == nil && (json.Unmarshal(out, &b) != nil || !reflect.DeepEqual(a, b)) {
			t.Fatalf("%s became %s", in, out)
		}
	})
}
