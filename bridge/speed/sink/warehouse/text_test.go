package warehouse

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestTexts(t *testing.T) {
	for name, c := range map[string]struct {
		t        Text
		in, want string // "!": it fails
	}{
		"header":          {Text{CSV: true, Header: 2}, "a,b\nc\n1,2\n", "\"1\",\"2\"\n"},
		"header alone":    {Text{CSV: true, Header: 2}, "a,b\n", ""},
		"a long header":   {Text{CSV: true, Header: 1}, strings.Repeat("h", 10000) + "\n1", "\"1\"\n"},
		"null":            {Text{CSV: true, Null: "x"}, "x,,\"x\",\"\"\n", ",,\"x\",\"\"\n"},
		"backslash N":     {Text{Escape: true, Backslash: true}, "\\N,a\\,b\\\nc,\\\\N\n", ",\"a,b\nc\",\"\\N\"\n"},
		"not escaped N":   {Text{CSV: true, Backslash: true}, "\\N,\"\\N\"\n", ",\"\\N\"\n"},
		"quote":           {Text{CSV: true, Quote: '%'}, "%a%%b,\n%,\"\n", "\"a%b,\n\",\"\"\"\"\n"},
		"remove quotes":   {Text{RemoveQuotes: true}, "'a,b',\"c'd\",e'f\n", "\"a,b\",\"c'd\",\"e'f\"\n"},
		"blanks":          {Text{CSV: true, Blanks: true}, "  ,\t,a \n", ",,\"a \"\n"},
		"trim":            {Text{CSV: true, Trim: true}, " a  ,  \n", "\" a\",\n"},
		"fill":            {Text{CSV: true, Fill: true}, "a\n1,2,3\n", "\"a\",,\n\"1\",\"2\",\"3\"\n"},
		"blank lines":     {Text{CSV: true, SkipBlank: true}, "\n\r\na\n\n\"\"\n", "\"a\"\n\"\"\n"},
		"bytes":           {Text{CSV: true, Invalid: '?'}, "a\xff\xfe,\x00\xc3\xa9\n", "\"a??\",\"?\u00e9\"\n"},
		"returns":         {Text{CSV: true, Header: 1}, "h\r\na,b\r\n", "\"a\",\"b\"\n"},
		"no end":          {Text{CSV: true}, "a,b", "\"a\",\"b\"\n"},
		"an open quote":   {Text{CSV: true}, "\"a", "!"},
		"an open escape":  {Text{Escape: true}, "a\\", "!"},
		"nothing":         {Text{CSV: true}, "", ""},
		"a quote later":   {Text{CSV: true}, "a\"b\n", "\"a\"\"b\"\n"},
		"escape in quote": {Text{Escape: true, RemoveQuotes: true}, "'a\\'b'\n", "\"a'b\"\n"},
	} {
		got, err := io.ReadAll(iotest.OneByteReader(newTexts(io.NopCloser(strings.NewReader(c.in)), c.t, ',', 3)))
		if c.want == "!" {
			if err == nil {
				t.Errorf("%s: %q", name, got)
			}
		} else if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// FuzzTexts: what is read as CSV is what a reader of CSV finds, and all that comes out is
// CSV.
func FuzzTexts(f *testing.F) {
	f.Add([]byte("a,\"b\"\"c\",\n\"\n\",d"), true, false, false)
	f.Add([]byte("'a',b\\,c\n"), false, true, true)
	f.Fuzz(func(t *testing.T, in []byte, isCSV, escape, remove bool) {
		out, err := io.ReadAll(newTexts(io.NopCloser(bytes.NewReader(in)),
			Text{CSV: isCSV, Escape: escape && !isCSV, RemoveQuotes: remove && !isCSV, SkipBlank: true}, ',', 0))
		if err != nil || bytes.ContainsRune(in, '\r') { // which encoding/csv passes over within quotes
			return
		}
		read := func(text []byte) ([][]string, error) {
			r := csv.NewReader(bytes.NewReader(text))
			r.FieldsPerRecord = -1
			return r.ReadAll()
		}
		got, err := read(out)
		if err != nil {
			t.Fatalf("%q: %q: %v", in, out, err)
		}
		if want, err := read(in); isCSV && err == nil && !slices.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("%q: %q, want %q", in, got, want)
		}
	})
}

func TestPaths(t *testing.T) {
	all, err := parsePaths([]byte(`{"jsonpaths": ["$.a.b", "$['c d'][1]", "$.e", "$.f[0].g", "$[\"h.i\"]"]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range all {
		got = append(got, string(p.in(json.RawMessage(`{"a":{"b": 1.50},"c d":["x","y"],"f":[],"h.i":{"j":null}}`))))
	}
	if want := []string{"1.50", `"y"`, "", "", `{"j":null}`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, bad := range []string{`{}`, `{"jsonpaths":[]}`, `x`, `{"jsonpaths":["a"]}`, `{"jsonpaths":["$"]}`,
		`{"jsonpaths":["$a"]}`, `{"jsonpaths":["$.a..b"]}`, `{"jsonpaths":["$['a'"]}`, `{"jsonpaths":["$[-1]"]}`,
		`{"jsonpaths":["$[x]"]}`, `{"jsonpaths":["$."]}`} {
		if all, err := parsePaths([]byte(bad)); err == nil {
			t.Errorf("%s: %v", bad, all)
		}
	}
	r := newRows(io.NopCloser(strings.NewReader(`{"a":{"b":null}} {"c d":[1,[2]],"e":"t"}`)), nil)
	r.paths = all
	if out, err := io.ReadAll(r); string(out) != ",,,,\n,\"[2]\",\"t\",,\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	r = newRows(io.NopCloser(strings.NewReader(`{"Device":"d","N":1}`)), []string{"n", "device"})
	r.fold = true
	if out, err := io.ReadAll(r); string(out) != "1,\"d\"\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func FuzzPaths(f *testing.F) {
	f.Add([]byte(`{"jsonpaths": ["$.a[0]['b']"]}`), []byte(`{"a":[{"b":1}]}`))
	f.Fuzz(func(t *testing.T, doc, object []byte) {
		all, err := parsePaths(doc)
		if err != nil || !json.Valid(object) {
			return
		}
		for _, p := range all {
			if v := p.in(object); len(v) > 0 && !json.Valid(v) {
				t.Fatalf("%q", v)
			}
		}
	})
}
