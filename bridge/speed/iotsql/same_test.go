package iotsql

import (
	"strings"
	"testing"
)

func TestSameDocument(t *testing.T) {
	deep := strings.Repeat("[", maxPayloadNesting+1) + strings.Repeat("]", maxPayloadNesting+1)
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{``, ``, true},
		{`not JSON`, `not JSON`, true},
		{`not JSON`, `not json`, false},
		{``, `null`, false},
		{`{"a":1,"b":2}`, ` { "b" : 2, "a":1 } `, true},
		{`{"a":1,"b":2,"c":3}`, `{"a":1,"c":3,"b":2}`, true},
		{`{"a":1,"b":2,"c":3}`, `{"a":1,"c":2,"b":3}`, false},
		{`{"a":1,"b":2}`, `{"a":1,"c":2}`, false},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`{"a":1,"b":2,"c":3}`, `{"a":1,"c":3}`, false},
		{`{"a":1,"c":3}`, `{"a":1,"b":2,"c":3}`, false},
		{`{"ab":1}`, `{"\u0061b":1}`, true},
		{`{"x":0,"ab":1}`, `{"\u0061b":1,"x":0}`, true},
		{`"a/b"`, `"a\/b"`, true},
		{`"a"`, `"b"`, false},
		{`"1"`, `1`, false},
		{`true`, `true `, true},
		{`true`, `false`, false},
		{`null`, ` null`, true},
		{`null`, `false`, false},
		{`[1,2]`, `[1, 2]`, true},
		{`[1,2]`, `[2,1]`, false},
		{`[1]`, `[1,2]`, false},
		{`[[1]]`, `[[1.0]]`, true},
		{`[{"a":{"b":1}}]`, `[{"a":{"b":2}}]`, false},
		{`1`, `1.0`, true},
		{`100`, `1e2`, true},
		{`-0`, `0`, true},
		{`9007199254740993`, `9007199254740992`, false},
		{`0.1000000000000000000000000000000000000001`, `0.1`, false},
		{`0.1000000000000000000000000000000000000000`, `0.1`, true},
		{`1e999999999999`, `1e999999999999`, true},
		{`1e999999999999`, `1E999999999999`, false},
		{`{"a":1} x`, `{"a":1}`, false},
		{deep, deep, true},
		{deep, deep + " ", false},
	} {
		if got := SameDocument([]byte(c.a), []byte(c.b)); got != c.same {
			t.Errorf("%.50s and %.50s: %v", c.a, c.b, got)
		}
		if got := SameDocument([]byte(c.b), []byte(c.a)); got != c.same {
			t.Errorf("%.50s and %.50s: %v", c.b, c.a, got)
		}
	}
}
