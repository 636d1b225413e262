package shadow

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

func parse(t testing.TB, text string) any {
	t.Helper()
	v, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	m, _ := parse(t, text).(map[string]any)
	return m
}

func TestNumbersAreComparedByValue(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true}, {"1", "10e-1", true}, {"100", "1E+2", true}, {"0.001", "1e-3", true},
		{"0", "-0", true}, {"0", "0e99999999999999999999", true}, {"0.0", "0e5", true},
		{"1", "-1", false}, {"1", "10", false}, {"9007199254740993", "9007199254740992", false},
		{"1e999999999", "1e999999998", false}, {"1e999999999", "10e999999998", true},
		{"1e99999999999999999999", "1e99999999999999999999", true},
		{"1e99999999999999999999", "2e99999999999999999999", false},
		{"12.5", "1.25e1", true}, {"0.10", "0.1", true},
	} {
		if got := Equal(parse(t, c.a), parse(t, c.b)); got != c.want {
			t.Errorf("%s = %s: %v", c.a, c.b, got)
		}
	}
}

func FuzzNumbers(f *testing.F) {
	f.Add("1.50", "15e-1")
	f.Add("-0.0e7", "0")
	f.Fuzz(func(t *testing.T, a, b string) {
		va, errA := Parse([]byte(a))
		vb, errB := Parse([]byte(b))
		na, okA := va.(json.Number)
		nb, okB := vb.(json.Number)
		if errA != nil || errB != nil || !okA || !okB || len(a) > 40 || len(b) > 40 {
			return
		}
		for _, n := range []json.Number{na, nb} { // big.Rat expands exponents
			if _, e, has := strings.Cut(strings.ToLower(string(n)), "e"); has && len(strings.TrimLeft(e, "+-0")) > 3 {
				return
			}
		}
		x, _ := new(big.Rat).SetString(string(na))
		y, _ := new(big.Rat).SetString(string(nb))
		if got, want := Equal(na, nb), x.Cmp(y) == 0; got != want {
			t.Fatalf("%s = %s: %v", na, nb, got)
		}
	})
}

// What Parse takes, Append writes so that it means the same to Parse and to
// encoding/json, and a second time the same bytes.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,null,true,"x\u0000\n\"\\<é"],"b":{"c":1.50}}`, `"\ud800"`, `{"a":1,"a":2}`,
		`[[]]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := Parse(in)
		if err != nil {
			return
		}
		out := Append(nil, v)
		w, err := Parse(out)
		if err != nil || !Equal(v, w) {
			t.Fatalf("%q -> %q: %v", in, out, err)
		}
		if again := Append(nil, w); !bytes.Equal(out, again) {
			t.Fatalf("%q, then %q", out, again)
		}
		if !json.Valid(out) {
			t.Fatalf("%q is no JSON", out)
		}
	})
}

func TestFrom(t *testing.T) {
	v, err := From(map[string]any{"f": 21.5, "i": int64(9007199254740993), "b": true, "l": []int{1}, "s": "<"})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(Append(nil, v)); got != `{"b":true,"f":21.5,"i":9007199254740993,"l":[1],"s":"<"}` {
		t.Error(got)
	}
	if _, err := From(json.Number("1x")); err == nil {
		t.Error("1x is a number")
	}
	if _, err := From(make(chan int)); err == nil {
		t.Error("a channel is a value")
	}
}

func TestTopics(t *testing.T) {
	for _, c := range []struct {
		text string
		want Topic
		ok   bool
	}{
		{"$aws/things/t/shadow/get", Topic{"t", "", OpGet, Request}, true},
		{"$aws/things/t/shadow/update/delta", Topic{"t", "", OpUpdate, Differences}, true},
		{"$aws/things/t/shadow/name/n/update/documents", Topic{"t", "n", OpUpdate, Documents}, true},
		{"$aws/things/t/shadow/name/update/update", Topic{"t", "update", OpUpdate, Request}, true},
		{"$aws/things/t/shadow/name/n/delete/rejected", Topic{"t", "n", OpDelete, Rejected}, true},
		{"$aws/things/t/shadow/get/delta", Topic{}, false},
		{"$aws/things/t/shadow/get/", Topic{}, false},
		{"$aws/things/t/shadow/get/accepted/x", Topic{}, false},
		{"$aws/things/t/shadow/name/get", Topic{}, false},
		{"$aws/things/t/shadow/name//get", Topic{}, false},
		{"$aws/things//shadow/get", Topic{}, false},
		{"$aws/things/t/shadow/put", Topic{}, false},
		{"$aws/things/t/jobs/get", Topic{}, false},
		{"aws/things/t/shadow/get", Topic{}, false},
		{"", Topic{}, false},
	} {
		got, ok := ParseTopic(c.text)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %v", c.text, got, ok)
		}
		if ok && got.String() != c.text {
			t.Errorf("%s comes back as %s", c.text, got)
		}
	}
	for name, want := range map[string]bool{"": false, "a": true, "A:z_0-9": true, "a/b": false, "ä": false,
		strings.Repeat("x", 64): true, strings.Repeat("x", 65): false} {
		if ValidName(name) != want {
			t.Errorf("ValidName(%q) = %v", name, !want)
		}
	}
	if !ValidThing(strings.Repeat("x", 128)) || ValidThing(strings.Repeat("x", 129)) {
		t.Error("ValidThing: 128 are good, 129 are not")
	}
}

func FuzzTopic(f *testing.F) {
	f.Add("$aws/things/t/shadow/name/n/update/documents")
	f.Fuzz(func(t *testing.T, s string) {
		if topic, ok := ParseTopic(s); ok && topic.String() != s {
			t.Fatalf("%q comes back as %q", s, topic)
		}
	})
}
