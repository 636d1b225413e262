package iotsql

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// javaDiffers are the patterns of testdata/regexp.jsonl where we differ from Java.
var javaDiffers = []string{
	`(?U)\w+`, `\p{javaLowerCase}`, `(?i)\p{javaLowerCase}`, // refused
	`(a*)*`, `(a*)+`, // a group that matches nothing at last: we have what it matched before
	`\G`, // by itself: we take it for the place where the search goes on
}

// TestJavaPatterns compares patterns and replacements with what OpenJDK 17
// made of them: pattern, text, replacement; then the groups of the first
// match, null without one or "malformed"; then the text after replaceAll, null
// where that throws. Both engines are tried where both are right.
func TestJavaPatterns(t *testing.T) {
	table, err := os.ReadFile("testdata/regexp.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	rows, fast := 0, 0
	for line := range strings.Lines(string(table)) {
		var row []any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		text, s, with := row[0].(string), []byte(row[1].(string)), []byte(row[2].(string))
		if slices.Contains(javaDiffers, text) {
			continue
		}
		rows++
		p := compilePattern([]byte(text))
		if malformed := row[3] == "malformed"; malformed || p == nil {
			if malformed != (p == nil) {
				t.Errorf("%q: we take it: %v, Java: %v", text, p != nil, !malformed)
			}
			continue
		}
		engines := []*pattern{p}
		if p.fits(s) {
			slow := *p
			slow.re = nil
			engines = append(engines, &slow)
			fast++
		}
		for _, p := range engines {
			f := newFrame(t.Context(), &program{}, &Message{})
			f.left = math.MaxInt // a machine that stalls takes nothing from the test
			var got []any
			p.find(f, s, false, func(groups []int) bool {
				for i := 0; i < len(groups); i += 2 {
					if groups[i] < 0 {
						got = append(got, nil)
					} else {
						got = append(got, string(s[groups[i]:groups[i+1]]))
					}
				}
				return false
			})
			want, _ := row[3].([]any)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%q in %q: %q, Java %q (fast %v: %q %q)", text, s, got, want, p.re != nil, p.fast, p.exact)
			}
			if is, ok := p.matches(f, s); is != (want != nil) || !ok {
				t.Errorf("%q matches %q: %v, %v", text, s, is, ok)
			}
			replaced := regexpReplace(f, p, []value{textValue(s), {}, textValue(with)})
			switch w, ok := row[4].(string); {
			case p.empty && strings.Contains(string(s), "😀"): // Java sees two characters in one, and nothing between
			case ok != (replaced.kind == kindText), string(replaced.b) != w:
				t.Errorf("%q in %q replaced by %q: %q %v, Java %q %v (fast %v)", text, s, with, replaced.b, replaced.kind, w, ok, p.re != nil)
			}
			if f.err != nil {
				t.Errorf("%q over %q: %v", text, s, f.err)
			}
			f.release()
		}
	}
	t.Logf("%d rows, %d with both engines", rows, fast)
	if fast < rows/2 {
		t.Errorf("of %d rows only %d are for package regexp", rows, fast)
	}
}

func TestPatternCacheBounded(t *testing.T) {
	var c patternCache
	f := newFrame(t.Context(), &program{}, &Message{})
	defer f.release()
	kept := c.get(f, []byte("kept"))
	for i := range 10 * patternCacheSize {
		if p := c.get(f, fmt.Appendf(nil, "x%d(", i)); p != nil {
			t.Fatalf("x%d( is well-formed", i)
		}
		c.get(f, fmt.Appendf(nil, "x{%d}", i))
		if c.get(f, []byte("kept")) != kept {
			t.Fatalf("a pattern in use was dropped after %d others", i)
		}
		if n := len(c.new) + len(c.old); n > 2*patternCacheSize {
			t.Fatalf("%d patterns are kept", n)
		}
	}
}

// Patterns and replacements of any kind end, with the same from both engines.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"a|b", `(?i)x*$`, `\bé\b`, "[^a-c&&[b]]+?", `(?<n>a)\k<n>`, `(?m)^.*$`, `\Qa.b\E{2}`, `(?=a)\p{L}++`} {
		f.Add(p, "aab\né x", "<$0>")
	}
	f.Fuzz(func(t *testing.T, text, s, with string) {
		p := compilePattern([]byte(text))
		if p == nil || len(s) > 200 || !utf8.ValidString(s) {
			return
		}
		fr := newFrame(t.Context(), &program{}, &Message{})
		defer fr.release()
		replace := func(p *pattern) string {
			v := regexpReplace(fr, p, []value{textValue([]byte(s)), {}, textValue([]byte(with))})
			return fmt.Sprintf("%d %s", v.kind, v.b)
		}
		fast := replace(p)
		slow := *p
		slow.re = nil
		if p.fits([]byte(s)) && slow.backtrack() != nil {
			if got := replace(&slow); got != fast && fr.err == nil {
				t.Fatalf("%q over %q: %q, backtracking %q\n%q %q", text, s, fast, got, p.fast, p.exact)
			}
		}
	})
}
