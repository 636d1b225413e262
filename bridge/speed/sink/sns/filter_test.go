package sns

import (
	"strings"
	"testing"

	"github.com/tidemill/tidemill/shadow"
)

// Policies take and leave messages as SNS's developer guide says of scope MessageBody.
func TestFilter(t *testing.T) {
	for _, c := range []struct {
		policy      string
		takes, nots []string
	}{
		{`{"store":["a","b"]}`, []string{`{"store":"a"}`, `{"store":["x","b"],"more":1}`},
			[]string{`{"store":"c"}`, `{}`, `"a"`, `no JSON`, `{"store":{"a":1}}`, `{"store":"a"} {}`}},
		{`{"n":[1],"s":["1"]}`, []string{`{"n":1.0,"s":"1"}`}, []string{`{"n":"1","s":"1"}`, `{"n":1,"s":1}`}},
		{`{"b":[true,null]}`, []string{`{"b":true}`, `{"b":null}`}, []string{`{"b":false}`, `{}`}},
		{`{"s":[{"prefix":"ab"},{"suffix":"yz"}]}`, []string{`{"s":"abc"}`, `{"s":"xyz"}`}, []string{`{"s":"bab"}`, `{"s":1}`}},
		{`{"s":[{"equals-ignore-case":"Ab"}]}`, []string{`{"s":"aB"}`}, []string{`{"s":"abc"}`}},
		{`{"s":[{"anything-but":["a",1]}]}`, []string{`{"s":"b"}`, `{"s":2}`}, []string{`{"s":"a"}`, `{"s":1}`, `{}`}},
		{`{"s":[{"anything-but":{"prefix":"a"}}]}`, []string{`{"s":"b"}`}, []string{`{"s":"ab"}`}},
		{`{"n":[{"numeric":[">",0,"<=",5]}]}`, []string{`{"n":5}`, `{"n":0.1}`}, []string{`{"n":0}`, `{"n":5.1}`, `{"n":"3"}`}},
		{`{"n":[{"numeric":["=",3e2]}]}`, []string{`{"n":300}`}, []string{`{"n":301}`}},
		{`{"n":[{"exists":true}]}`, []string{`{"n":0}`, `{"n":null}`}, []string{`{}`}},
		{`{"n":[{"exists":false}]}`, []string{`{}`, `{"m":1}`}, []string{`{"n":0}`}},
		{`{"a":{"b":{"c":["x"]}}}`, []string{`{"a":{"b":{"c":"x"}}}`, `{"a":[{"b":{"c":"y"}},{"b":{"c":"x"}}]}`},
			[]string{`{"a":{"b":"x"}}`, `{"a":{}}`}},
		{`{"a":{"b":[{"exists":false}]}}`, []string{`{"a":{}}`, `{}`}, []string{`{"a":{"b":1}}`}},
		{`{"k":["x"],"$or":[{"a":[1]},{"b":[2]}]}`, []string{`{"k":"x","a":1}`, `{"k":"x","b":2}`},
			[]string{`{"k":"x"}`, `{"a":1}`}},
	} {
		f, err := ParseFilter([]byte(c.policy))
		if err != nil {
			t.Errorf("%s: %v", c.policy, err)
			continue
		}
		for _, m := range c.takes {
			if !f.Match([]byte(m)) {
				t.Errorf("%s leaves %s", c.policy, m)
			}
		}
		for _, m := range c.nots {
			if f.Match([]byte(m)) {
				t.Errorf("%s takes %s", c.policy, m)
			}
		}
	}
	for policy, want := range map[string]string{
		``: "EOF", `[]`: "object", `{}`: "no members", `{"a":1}`: "a: want an array", `{"a":[[1]]}`: "an array in an array",
		`{"a":[{"cidr":"10.0.0.0/8"}]}`: `"cidr" is not served`, `{"a":[{"prefix":1}]}`: "prefix: want a text",
		`{"a":[{"prefix":"a","suffix":"b"}]}`: "has one member", `{"a":[{"exists":1}]}`: "true or false",
		`{"a":[{"numeric":[">"]}]}`: "numeric: want", `{"a":[{"numeric":["!",1]}]}`: "want =",
		`{"a":[{"anything-but":[]}]}`: "at least one", `{"a":[{"anything-but":[{"exists":true}]}]}`: "a prefix or a suffix",
		`{"$or":[{"a":[1]},1]}`: "want objects", `{"a":{}}`: "a: an object of no members", `{"a":["x"]} 1`: "after the value",
		strings.Repeat(`{"a":`, 40) + `["x"]` + strings.Repeat(`}`, 40): "in each other",
		`{"a":["` + strings.Repeat("x", maxFilter) + `"]}`:              "bytes, want at most",
	} {
		if _, err := ParseFilter([]byte(policy)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", policy, err, want)
		}
	}
}

// No policy takes what is no JSON object, and white space does not count.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(`{"a":["x",{"prefix":"y"},{"numeric":["<",3]}]}`), []byte(`{"a":"x"}`))
	f.Add([]byte(`{"a":{"b":[{"exists":false}]},"$or":[{"c":[1]},{"d":[null]}]}`), []byte(`{"c":1}`))
	f.Fuzz(func(t *testing.T, policy, message []byte) {
		x, err := ParseFilter(policy)
		if err != nil {
			return
		}
		got := x.Match(message)
		if v, err := shadow.Parse(message); err != nil {
			if got {
				t.Errorf("%s takes %q", policy, message)
			}
		} else if _, ok := v.(map[string]any); !ok && got {
			t.Errorf("%s takes %q", policy, message)
		}
		if got != x.Match(append([]byte(" "), message...)) {
			t.Errorf("%s: white space counts in %q", policy, message)
		}
	})
}
