package index

import (
	"errors"
	"strings"
	"testing"
)

func TestParseQuery(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"*", "*"},
		{"abc", `"abc"`},
		{"ABC", `"abc"`},
		{"thingName:my*", `thingName:\m\y*`},
		{"thingName : my?", `thingName:\m\y?`},
		{"thingName:*", "thingName:*"},
		{`thingName:a\*b`, `thingName:"a*b"`},
		{"thingName:a:b", `thingName:"a:b"`},
		{"attributes.a:[75 TO 80]", "attributes.a:[75 TO 80]"},
		{"attributes.a:{75 TO 80]", "attributes.a:{75 TO 80]"},
		{"attributes.a:[* TO 80}", "attributes.a:{* TO 80}"},
		{"attributes.a:[* TO *]", "attributes.a:*"},
		{`attributes.serialNumber:["abcd" TO "abcf"]`, `attributes.serialNumber:["abcd" TO "abcf"]`},
		{"a:[abcd TO 7]", `a:["abcd" TO "7"]`},
		{"attributes.a<5", "attributes.a:{* TO 5}"},
		{"attributes.a <= 5", "attributes.a:{* TO 5]"},
		{"attributes.a>=-5.5e3", "attributes.a:[-5.5e3 TO *}"},
		{"attributes.a:>5", "attributes.a:{5 TO *}"},
		{"connectivity.timestamp : [1557651600000 TO 1557867600000]",
			"connectivity.timestamp:[1557651600000 TO 1557867600000]"},
		{"a:1 b:2", `a:"1" AND b:"2"`},
		{"a:1 AND b:2 OR c:3", `a:"1" AND b:"2" OR c:"3"`},
		{"a:1 OR b:2 c:3", `a:"1" OR b:"2" AND c:"3"`},
		{"a:1 AND (b:2 OR c:3)", `a:"1" AND (b:"2" OR c:"3")`},
		{"attributes.attr1:abc AND attributes.attr2<5 NOT attributes.attr3>10",
			`attributes.attr1:"abc" AND attributes.attr2:{* TO 5} AND NOT attributes.attr3:{10 TO *}`},
		{"shadow.reported.stats.battery:{70 TO 100} (v2 OR v3) NOT attributes.model:legacy",
			`shadow.reported.stats.battery:{70 TO 100} AND ("v2" OR "v3") AND NOT attributes.model:"legacy"`},
		{"thingName:(tv* AND -plasma)", `thingName:\t\v* AND NOT thingName:"plasma"`},
		{"parentGroupNames:(a OR b)", `parentGroupNames:"a" OR parentGroupNames:"b"`},
		{"NOT(a:1)", `NOT a:"1"`},
		{"NOT(a b) (c d) OR (e OR f)", `NOT ("a" AND "b") AND ("c" AND "d") OR ("e" OR "f")`},
		{"-a:1", `NOT a:"1"`},
		{"+a:1", `a:"1"`},
		{`location:"New  York"`, `location:"new york"`},
		{`location:new\ york`, `location:"new york"`},
		{`a:"quo\"te"`, `a:"quo\"te"`},
		{"a-b:c-d", `a\-b:"c-d"`},
		{"ANDy NOTe ORB", `"andy" AND "note" AND "orb"`},
		{"not and or", `"not" AND "and" AND "or"`},
		{"  a  ", `"a"`},
	} {
		q, err := ParseQuery(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if got := q.String(); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "(", ")", "a:", "a:1 AND", "AND a", "OR", "a OR", "NOT", "a AND AND b", "a:(", "a:()", "()", "a:[1 TO",
		"a:[1 2]", "a:[1 TO 2",
		"a:[ TO 2]", "[1 TO 2]", "<5", "a<", "a<*", "a:[1* TO 2]", `"abc`, `a:""`, ":x", "a*:x", "- a", "a && b",
		"a || b", "a~", "a~2", "a^4", "a) b",
		"a\xff", strings.Repeat("(", 40) + "a" + strings.Repeat(")", 40), strings.Repeat("NOT ", 100) + "a",
		strings.Repeat("a ", maxTerms+1), "a* b* c* d* \"e f\"", strings.Repeat("a", maxQuery+1),
	} {
		if q, err := ParseQuery(in); !errors.Is(err, ErrQuery) {
			t.Errorf("%.60q: %v, %v", in, q, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "-0": "0", "75": "75", "75.0": "75", "7.5e1": "75", "-1.5": "-1.5", "1e-7": "1e-07",
		"9007199254740991": "9007199254740991",
		"9007199254740992": "", "-9007199254740993": "", "1e400": "", "1e30": "1e+30", "": "", "-": "", "01": "",
		"1.": "", ".5": "", "+1": "", "0x10": "",
		"1_000": "", "Inf": "", "NaN": "", "1e": "", "1e+": "", "1e+5": "100000", "12.5.6": "", "1-2": "",
	} {
		n, ok := numberOf(in)
		if got := numberText(n); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %v %s, want %q", in, ok, got, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a*", "a", true}, {"a*", "abc", true}, {"a*", "b", false}, {"*c", "abc", true}, {"*c", "abcd", false},
		{"*b*", "abc", true}, {"a?c", "abc", true},
		{"a?c", "ac", false}, {"a?", "aä", true}, {"i*t", "it", true}, {"i*t", "input", true}, {"*a*a*a*b",
			strings.Repeat("a", 500), false}, {"?*", "", false}, {"ab*ba", "aba", false}, {"ab*ba", "abba", true},
		{"a*b*c", "acb", false},
		{"**", "", true}, {"a**b", "ab", true},
	} {
		q, err := ParseQuery("f:" + c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		g := q.root.(match).want.(glob)
		if got := g.fits(c.text); got != c.want || g.walk(c.text) != got {
			t.Errorf("%s %s: %v", c.pattern, c.text, got)
		}
	}
}

// What is parsed is written so that it means the same, and a document that a
// search finds is one that fits, and no other.
func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{
		"*", "abc", "thingName:my*", "attributes.a:[75 TO 80}", "a<=5 b:>2", "(a OR NOT b) -c", `x:"New York"`,
		`x:new\ york`, "NOT NOT a", "thingName:(a b)",
		`attributes.s:["a" TO b]`, "shadow.hasDelta:true", "registry.version>0", "ŉ:İ*", "f:-5 +g:?",
	} {
		f.Add(s)
	}
	c := newCorpus()
	for i, n := range sampleNames {
		c.put(n, sampleCells(uint64(i)))
	}
	f.Fuzz(func(t *testing.T, in string) {
		q, err := ParseQuery(in)
		if err != nil {
			if !errors.Is(err, ErrQuery) {
				t.Fatal(err)
			}
			return
		}
		if len(q.String()) > maxQuery {
			return
		}
		again, err := ParseQuery(q.String())
		if err != nil || again.String() != q.String() {
			t.Fatalf("%q -> %q -> %v, %v", in, q, again, err)
		}
		agree(t, c, q)
		for _, n := range sampleNames {
			d, _ := c.find(n)
			if c.fits(q, d) != c.fits(again, d) {
				t.Fatalf("%q and %q differ for %s", in, q, n)
			}
		}
	})
}

// agree compares a search with what fits.
func agree(t *testing.T, c *corpus, q *Query) {
	t.Helper()
	found := c.search(q)
	for _, d := range c.order {
		if found.has(d) != c.fits(q, d) {
			t.Fatalf("%s: search says %v of %s, which fits: %v", q, found.has(d), c.docs[d].name, c.fits(q, d))
		}
	}
	for n := range uint32(len(found) * 32) {
		if found.has(n) && !c.live.has(n) {
			t.Fatalf("%s: finds what is not there", q)
		}
	}
}
