package authz

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// naiveMatch is the definition of the wildcards, without a thought for time.
func naiveMatch(p, s string) bool {
	if p == "" {
		return s == ""
	}
	_, n := utf8.DecodeRuneInString(s)
	switch p[0] {
	case star:
		return naiveMatch(p[1:], s) || s != "" && naiveMatch(p, s[n:])
	case one:
		return s != "" && naiveMatch(p[1:], s[n:])
	}
	return s != "" && s[0] == p[0] && naiveMatch(p[1:], s[1:])
}

func encode(p string) string {
	return strings.NewReplacer("*", "\xff", "?", "\xfe").Replace(strings.ToValidUTF8(p, ""))
}

// FuzzGlob compares the matcher with its definition, and the residues behind
// an ARN's type with a match of the whole.
func FuzzGlob(f *testing.F) {
	for _, c := range [][2]string{
		{"a/*/c/*", "a/b/c/d"}, {"*temp*", "mytemperature"}, {"??/*", "a//x"}, {"**", ""}, {"*é?", "aéé"}, {"?", "日"},
		{"topic/*", "topic/x"}, {"*/a", "topic/a"}, {"*pic/?", "topic/a"}, {"t*c/*", "topic/topic/"},
		{"*a*a*a*b", "aaaaaaaaaaaa"},
	} {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 24 || len(s) > 32 || strings.Count(pattern, "*") > 5 {
			return
		}
		p := encode(pattern)
		s = strings.ToValidUTF8(s, "")
		want := naiveMatch(p, s)
		g := newGlob(p)
		if got := matchGlob(p, s); got != want || g.match(s) != want {
			t.Fatalf("%q on %q: %v, glob %v, want %v", pattern, s, got, g.match(s), want)
		}
		for _, head := range kindHead {
			want, got := naiveMatch(p, head+s), false
			for _, r := range residues(p, head) {
				got = got || naiveMatch(r, s)
			}
			if got != want {
				t.Fatalf("%q on %q + %q: %v, want %v (residues %q)", pattern, head, s, got, want, residues(p, head))
			}
		}
	})
}

// FuzzParse: whatever Parse accepts can be compiled; no policies allow
// nothing; adding Deny * to any document leaves nothing allowed; Explain agrees
// with Decide.
func FuzzParse(f *testing.F) {
	f.Add(string(ThingPolicy("000000000000", "eu-local-1")), "dt/pump-1/x")
	f.Add(here(`{"Statement":{"Effect":"Deny","NotAction":"iot:*","NotResource":"@topic/${*}${iot:ClientId}?"}}`), "a")
	f.Add(here(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{
		"ForAllValues:StringLikeIfExists":{"iot:Certificate.Subject.CommonName.List":["a*","${iot:ClientId}"]},
		"NumericLessThan":{"iot:Connection.Thing.Attributes[n]":1.5},"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"},
		"DateGreaterThan":{"aws:CurrentTime":"2020-01-01"},"ArnNotLike":{"iot:LastWillTopic":"arn:aws:iot:*"},"Null":{"x":true}}}]}`), "b")
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:${aws:SourceIp}:*"}]}`,
		"c")
	deny := mustParse(f, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)
	f.Fuzz(func(t *testing.T, doc, resource string) {
		d, err := Parse([]byte(doc))
		if err != nil {
			if d != nil {
				t.Fatal("a document beside an error")
			}
			return
		}
		ctx := testContext()
		ctx.Will = resource
		e, none := Compile([]*Document{d}, ctx), Compile([]*Document{d, deny}, ctx)
		for _, a := range known {
			action := "iot:" + a.name
			if a.kind == kindAny && resource != "*" {
				continue
			}
			got := e.Decide(action, resource)
			if x := e.Explain(action, resource); x.Decision != got ||
				(len(x.Deciding()) == 0) != (got == ImplicitDeny) {
				t.Fatalf("%s: decided %s, explained\n%s", action, got, x)
			}
			if n := none.Decide(action, resource); n != ExplicitDeny {
				t.Fatalf("%s with Deny *: %s", action, n)
			}
		}
	})
}
