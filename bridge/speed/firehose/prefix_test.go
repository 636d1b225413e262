package firehose

import (
	"strings"
	"testing"
	"time"
)

var when = time.Date(2026, 3, 9, 7, 5, 4, 30e6, time.UTC)

func TestPrefix(t *testing.T) {
	zone := time.FixedZone("east", 2*3600)
	v := Values{At: when, Query: map[string]string{"site": "north"}, Lambda: map[string]string{"kind": "flood", "site": "x"}}
	for _, c := range []struct{ text, want string }{
		{"", "2026/03/09/09/"},
		{"plain", "plain2026/03/09/09/"},
		{"a/!{timestamp:yyyy-MM-dd}/b", "a/2026-03-09/b"},
		{"!{timestamp:'year='yyyy'/day='DDD}/", "year=2026/day=068/"},
		{"!{timestamp:H}:!{timestamp:mm.ss.SSS}", "9:05.04.030"},
		{"!{timestamp:yy''MMM}", "26'Mar"},
		{"!{partitionKeyFromQuery:site}/!{timestamp:yyyy}/", "north/2026/"},
		{"!{partitionKeyFromLambda:kind}/!{partitionKeyFromQuery:site}/", "flood/north/2026/03/09/09/"},
		{"Grüße/!{timestamp:dd}", "Grüße/09"},
		{"a!b{c}", "a!b{c}2026/03/09/09/"},
	} {
		p, err := parseObjectPrefix(c.text, zone)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got, err := p.Eval(v); got != c.want || err != nil {
			t.Errorf("%q gives %q, %v, want %q", c.text, got, err, c.want)
		}
	}
	p, err := parseObjectPrefix("!{firehose:random-string}/!{firehose:random-string}/", zone)
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Eval(v)
	a, b, _ := strings.Cut(text, "/")
	if err != nil || len(a) != 11 || a == b[:11] {
		t.Errorf("random strings %q, %q, %v", a, b, err)
	}
	for _, bad := range []string{"!{timestamp:}", "!{timestamp:yyyy", "!{timestamp:qq}", "!{}", "!{firehose:}",
		"!{firehose:error-output-type}", "!{partitionKeyFromQuery:}", "!{partitionKeyFromLambda}", "!{Timestamp:yyyy}",
		"!{timestamp:'open}", "!{timestamp:QQ}", "!{timestamp:HHH}", "!{timestamp:yyyy]MM}", "\xff"} {
		if _, err := parseObjectPrefix(bad, zone); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// Characters are counted when the prefix is evaluated, and partition keys must
// be there then.
func TestPrefixWithoutValues(t *testing.T) {
	p, err := parseObjectPrefix("!{partitionKeyFromQuery:site}/!{timestamp:yyyy}", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		site string
		ok   bool
	}{{"", false}, {strings.Repeat("ü", 507), true}, {strings.Repeat("ü", 508), false}} {
		if _, err := p.Eval(Values{At: when, Query: map[string]string{"site": c.site}}); (err == nil) != c.ok {
			t.Errorf("%d characters: %v", len(c.site)/2, err)
		}
	}
}

func TestErrorPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "splunk-failed/2026/03/09/07/",
		"bad/":                            "bad/splunk-failed/2026/03/09/07/",
		"x/!{firehose:error-output-type}": "x/splunk-failed",
		"!{firehose:error-output-type}/!{timestamp:yyyy}/": "splunk-failed/2026/",
	} {
		p, err := parseErrorPrefix(text, time.UTC)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got, err := p.Eval(Values{At: when, ErrorType: splunkFailed}); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, bad := range []string{"!{timestamp:yyyy}/", "!{firehose:random-string}", "!{",
		"!{firehose:error-output-type}/!{partitionKeyFromQuery:x}"} {
		if _, err := parseErrorPrefix(bad, time.UTC); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// Whatever is accepted can be evaluated, and has no more than 512 characters.
func FuzzPrefix(f *testing.F) {
	for _, s := range []string{"a/!{timestamp:yyyy}/", "!{firehose:random-string}", "!{partitionKeyFromQuery:a}",
		"!{firehose:error-output-type}", "!{timestamp:''}", "!{timestamp:yyyy'}'}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string, *time.Location) (Prefix, error){parseObjectPrefix, parseErrorPrefix} {
			p, err := parse(text, time.UTC)
			if err != nil {
				continue
			}
			got, err := p.Eval(p.sample())
			if n := len([]rune(got)); n > maxPrefix || err != nil && n > 0 {
				t.Fatalf("%q gives %q, %v", text, got, err)
			}
		}
	})
}
