package javaregexp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// unbounded is a budget without an end: a machine that stalls takes nothing
// from the test.
type unbounded struct{}

func (unbounded) Work(int) bool { return true }
func (unbounded) Fits(int) bool { return true }

// bounded has so much work left, and room for 1 MB.
type bounded struct{ left int }

func (b *bounded) Work(n int) bool { b.left -= n; return b.left >= 0 }
func (b *bounded) Fits(n int) bool { return n <= 1<<20 }

// A search ends with what its budget has, and says so.
func TestBudgetEndsSearch(t *testing.T) {
	text := bytes.Repeat([]byte("a"), 10_000)
	for _, pattern := range []string{"a", "(?=a)a"} {
		p := Compile(pattern)
		if _, err := p.ReplaceAll(&bounded{left: 10}, text, []byte("b")); !errors.Is(err, ErrTooMuchWork) {
			t.Errorf("%s: %v, want ErrTooMuchWork", pattern, err)
		}
		if _, err := p.ReplaceAll(&bounded{left: 1 << 30}, text, bytes.Repeat([]byte("b"), 200)); !errors.Is(err,
			errTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", pattern, err)
		}
		if _, ok := p.Match(&bounded{}, text); ok {
			t.Errorf("%s: matched without a budget", pattern)
		}
	}
}

// javaDiffers are the patterns of testdata/java.jsonl where we differ from Java.
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
	table, err := os.ReadFile("testdata/java.jsonl")
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
		p := Compile(text)
		if malformed := row[3] == "malformed"; malformed || p == nil {
			if malformed != (p == nil) {
				t.Errorf("%q: we take it: %v, Java: %v", text, p != nil, !malformed)
			}
			continue
		}
		engines := []*Pattern{p}
		if p.fits(s) {
			slow := *p
			slow.re = nil
			engines = append(engines, &slow)
			fast++
		}
		for _, p := range engines {
			var got []any
			p.Find(unbounded{}, s, false, func(groups []int) bool {
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
			if is, ok := p.Match(unbounded{}, s); is != (want != nil) || !ok {
				t.Errorf("%q matches %q: %v, %v", text, s, is, ok)
			}
			replaced, err := p.ReplaceAll(unbounded{}, s, with)
			switch w, ok := row[4].(string); {
			case p.empty && strings.Contains(string(s), "😀"): // Java sees two characters in one, and nothing between
			case ok != (err == nil), string(replaced) != w, err != nil && !errors.Is(err, errReplacement):
				t.Errorf("%q in %q replaced by %q: %q %v, Java %q %v (fast %v)", text, s, with, replaced, err, w, ok,
					p.re != nil)
			}
		}
	}
	t.Logf("%d rows, %d with both engines", rows, fast)
	if fast < rows/2 {
		t.Errorf("of %d rows only %d are for package regexp", rows, fast)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c Cache
	kept := c.Get(unbounded{}, []byte("kept"))
	for i := range 10 * cacheSize {
		if p := c.Get(unbounded{}, fmt.Appendf(nil, "x%d(", i)); p != nil {
			t.Fatalf("x%d( is well-formed", i)
		}
		c.Get(unbounded{}, fmt.Appendf(nil, "x{%d}", i))
		if c.Get(unbounded{}, []byte("kept")) != kept {
			t.Fatalf("a pattern in use was dropped after %d others", i)
		}
		if n := len(c.new) + len(c.old); n > 2*cacheSize {
			t.Fatalf("%d patterns are kept", n)
		}
	}
}

// Patterns and replacements of any kind end, with the same from both engines.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"a|b", `(?i)x*$`, `\bé\b`, "[^a-c&&[b]]+?", `(?<n>a)\k<n>`, `(?m)^.*$`, `\Qa.b\E{2}`,
		`(?=a)\p{L}++`} {
		f.Add(p, "aab\né x", "<$0>")
	}
	f.Fuzz(func(t *testing.T, text, s, with string) {
		p := Compile(text)
		if p == nil || len(s) > 200 || !utf8.ValidString(s) {
			return
		}
		b := &bounded{left: 500_000}
		replace := func(p *Pattern) string {
			out, err := p.ReplaceAll(b, []byte(s), []byte(with))
			return fmt.Sprintf("%s %v", out, err)
		}
		fast := replace(p)
		slow := *p
		slow.re = nil
		if p.fits([]byte(s)) && slow.backtrack() != nil {
			if got := replace(&slow); got != fast && b.left >= 0 {
				t.Fatalf("%q over %q: %q, backtracking %q\n%q %q", text, s, fast, got, p.fast, p.exact)
			}
		}
	})
}
