package authz

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func mustParse(t testing.TB, doc string) *Document {
	t.Helper()
	d, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// here shortens ARNs in the tests: @topic/a.
func here(s string) string { return strings.ReplaceAll(s, "@", "arn:aws:iot:eu-local-1:000000000000:") }

func testContext() Context {
	return Context{Account: "000000000000", Region: "eu-local-1", ClientID: "pump-1", SourceIP: "192.0.2.10",
		Thing: &Thing{Name: "pump-1", Attached: true, Attributes: map[string]string{"line": "L7"}}}
}

func TestParseRefuses(t *testing.T) {
	st := func(s string) string { return here(`{"Version":"2012-10-17","Statement":[` + s + `]}`) }
	ok := `"Effect":"Allow","Action":"iot:Publish","Resource":"@topic/a"`
	for _, c := range []struct{ doc, want string }{
		{"", "not JSON"},
		{"\xff", "not UTF-8"},
		{"[]", "want an object"},
		{`{"Version":"2012-10-17"}`, "no Statement"},
		{`{"Version":20121017,"Statement":[]}`, "Version"},
		{`{"Version":null,"Statement":[]}`, "Version"},
		{st(`{"Action":"iot:Publish","Resource":"*"}`), "statement 1: no Effect"},
		{st(`{"Effect":"Allow","Resource":"*"}`), "no Action"},
		{st(`{"Effect":"Allow","Action":"iot:Publish"}`), "no Resource"},
		{st(`{"Effect":"Allow","Action":"","Resource":"*"}`), "want service:action"},
		{st(`{"Effect":"Allow","Action":"Publish","Resource":"*"}`), "want service:action"},
		{st(`{"Effect":"Allow","Action":"iot:","Resource":"*"}`), "want service:action"},
		{st(`{"Effect":"Allow","Action":"*:Publish","Resource":"*"}`), "want service:action"},
		{st(`{"Effect":"Allow","Action":["iot:Publish",1],"Resource":"*"}`), "wrong type"},
		{st(`{"Effect":"Deny","Action":"iot:Pubish","Resource":"*"}`), "no such action"},
		{st(`{"Effect":"Allow","Action":"iot:Publish","Resource":[]}`), "empty list"},
		{st(`{"Effect":"Allow","Action":"iot:Publish","Resource":""}`), "want * or arn"},
		{st(`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:*"}`), "want * or arn"},
		{st(`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:eu:1"}`), "want * or arn"},
		{st(`{"Effect":"Allow","Action":"iot:Publish","Resource":"ARN:aws:iot:eu:1:topic/a"}`), "want * or arn"},
		{st(`{"Sid":7,` + ok + `}`), "Sid"},
		{st(`{"Condition":null,` + ok + `}`), "want an object"},
		{st(`{"Condition":{"NullIfExists":{"iot:ClientId":"true"}},` + ok + `}`), "operator"},
		{st(`{"Condition":{"StringEquals":{"":"x"}},` + ok + `}`), "empty condition key"},
		{st(`{"Condition":{"StringEquals":{"iot:ClientId":null}},` + ok + `}`), "wrong type"},
		{st(`{"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}},` + ok + `}`), "does not suit"},
		{st(`{"Condition":{"DateLessThan":{"aws:CurrentTime":"yesterday"}},` + ok + `}`), "does not suit"},
		{st(`{"Condition":{"NumericEquals":{"k":"1e999999999"}},` + ok + `}`), "does not suit"},
		{st(`{"Condition":{"Bool":{"k":"yes"}},` + ok + `}`), "does not suit"},
		{st(`{"Condition":{"StringEquals":{"k":"a","k":"b"}},` + ok + `}`), "twice"},
		{strings.Repeat("[", 20) + strings.Repeat("]", 20), "nested too deep"},
		{strings.Repeat(" ", maxRaw) + st(`{`+ok+`}`), "want at most"},
	} {
		_, err := Parse([]byte(c.doc))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%.80s: %v, want %q", c.doc, err, c.want)
		}
	}
}

// The limit counts characters, not bytes, and no white space.
func TestParseLimit(t *testing.T) {
	doc := func(fill string, n int) []byte {
		head := here(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Publish", "Resource": "@topic/`)
		tail := "\"}]}\n"
		return []byte(head + strings.Repeat(fill, n-len(strings.Join(strings.Fields(head+tail), ""))) + tail)
	}
	for _, fill := range []string{"a", "é", "日"} {
		if _, err := Parse(doc(fill, MaxDocument)); err != nil {
			t.Errorf("%d characters of %s: %v", MaxDocument, fill, err)
		}
		if _, err := Parse(doc(fill, MaxDocument+1)); err == nil {
			t.Errorf("%d characters of %s: no error", MaxDocument+1, fill)
		}
	}
}

func TestThingPolicy(t *testing.T) {
	d, err := Parse(ThingPolicy("000000000000", "eu-local-1"))
	if err != nil {
		t.Fatal(err)
	}
	own := Compile([]*Document{d}, testContext())
	detached := testContext()
	detached.Thing = nil
	other := Compile([]*Document{d}, detached)
	for _, c := range []struct {
		action, resource string
		want             Decision
	}{
		{Connect, "pump-1", Allowed},
		{Publish, "$tidemill/batch", Allowed},
		{Publish, "dt/pump-1/bme280", Allowed},
		{Publish, "dt/pump-1/a/b", Allowed},
		{RetainPublish, "presence/pump-1", Allowed},
		{Publish, "presence/pump-1/x", Allowed},
		{Publish, "$aws/things/pump-1/shadow/update", Allowed},
		{Publish, "$aws/things/pump-1/shadow/get", Allowed},
		{Publish, "$aws/things/pump-1/shadow/name/config/update", Allowed},
		{Subscribe, "$aws/things/pump-1/shadow/#", Allowed},
		{Subscribe, "$aws/things/pump-1/shadow/update/delta", Allowed},
		{Subscribe, "$aws/things/pump-1/shadow/get/+", Allowed},
		{Subscribe, "cmd/pump-1/#", Allowed},
		{Receive, "cmd/pump-1/reboot", Allowed},
		{Receive, "$aws/things/pump-1/shadow/name/config/update/delta", Allowed},
		{Publish, "$aws/things/pump-1/shadow/update/accepted", ImplicitDeny},
		{Publish, "dt/pump-2/bme280", ImplicitDeny},
		{Publish, "dt/pump-1", ImplicitDeny},
		{Publish, "cmd/pump-1/reboot", ImplicitDeny},
		{Publish, "$aws/things/pump-2/shadow/update", ImplicitDeny},
		{Subscribe, "#", ImplicitDeny},
		{Subscribe, "cmd/+/reboot", ImplicitDeny},
		{Subscribe, "$aws/things/+/shadow/#", ImplicitDeny},
		{Receive, "dt/pump-2/x", ImplicitDeny},
		{"iot:NoSuch", "x", ImplicitDeny},
		{"", "", ImplicitDeny},
	} {
		if got := own.Decide(c.action, c.resource); got != c.want {
			t.Errorf("%s %s: %s, want %s\n%s", c.action, c.resource, got, c.want, own.Explain(c.action, c.resource))
		}
		if got := other.Decide(c.action, c.resource); got == Allowed && c.resource != "$tidemill/batch" {
			t.Errorf("%s %s: allowed without an attached thing", c.action, c.resource)
		}
	}
	if other.Allows(Connect, "pump-1") {
		t.Error("connects without an attached thing")
	}
}

func TestExplain(t *testing.T) {
	d := mustParse(t, here(`{"Version":"2012-10-17","Statement":[
		{"Sid":"all","Effect":"Allow","Action":"iot:Publish","Resource":["@topic/x","@topic/a/*"]},
		{"Sid":"secret","Effect":"Deny","Action":"iot:*","Resource":"@topic/a/secret"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":"*","Condition":{"StringEquals":{"iot:Connection.Thing.ThingTypeName":"boss"}}}]}`))
	d.Name = "floor:2"
	e := Compile([]*Document{d}, testContext())
	x := e.Explain(Publish, "a/secret")
	want := here(`EXPLICIT_DENY iot:Publish on @topic/a/secret
  policy floor:2, statement 1 (all), Allow: applies: @topic/a/*
  policy floor:2, statement 2 (secret), Deny: applies: @topic/a/secret
  policy floor:2, statement 3, Allow: does not apply: condition does not hold: StringEquals iot:Connection.Thing.ThingTypeName
  without a value: iot:connection.thing.thingtypename
`)
	if x.String() != want {
		t.Errorf("got\n%swant\n%s", x, want)
	}
	if got := x.Deciding(); len(got) != 1 || got[0].Sid != "secret" {
		t.Errorf("deciding: %+v", got)
	}
	if x := Compile(nil, testContext()).Explain(Connect, "pump-1"); !strings.Contains(x.String(),
		"no policy is attached") {
		t.Error(x)
	}
}

// A wildcard must not let a topic supply the missing parts of another ARN.
func TestNoCrossing(t *testing.T) {
	d := mustParse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish",`+
		`"Resource":"arn:aws:iot:*:999999999999:topic/a"}]}`)
	e := Compile([]*Document{d}, testContext())
	for _, topic := range []string{"a", "000000000000:topic/x:999999999999:topic/a", ":999999999999:topic/a"} {
		if d := e.Decide(Publish, topic); d != ImplicitDeny {
			t.Errorf("%s: %s", topic, d)
		}
	}
}

// Conditions on the time are asked at each decision, all others once.
func TestTimePasses(t *testing.T) {
	d := mustParse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish","iot:Connect"],"Resource":"*",
		"Condition":{"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"},"NumericGreaterThan":{"aws:EpochTime":"0"}}}]}`)
	now := time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC)
	ctx := testContext()
	ctx.Now = func() time.Time { return now }
	e := Compile([]*Document{d}, ctx)
	if !e.Allows(Publish, "a") || !e.Allows(Connect, "pump-1") {
		t.Error("refused before the date")
	}
	now = now.Add(time.Second)
	if e.Allows(Publish, "a") || e.Allows(Connect, "pump-1") {
		t.Error("allowed after the date")
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	e := Compile([]*Document{mustParse(t, string(ThingPolicy("000000000000", "eu-local-1")))}, testContext())
	n := testing.AllocsPerRun(100, func() {
		e.Decide(Publish, "dt/pump-1/bme280")
		e.Decide(Subscribe, "$share/g/cmd/pump-1/#")
		e.Decide(Receive, "$aws/things/pump-1/shadow/update/delta")
		e.Decide(GetThingShadow, "pump-1")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	e := Compile([]*Document{mustParse(b, string(ThingPolicy("000000000000", "eu-local-1")))}, testContext())
	for _, c := range []struct{ name, action, resource string }{
		{"publish", Publish, "dt/pump-1/bme280"},
		{"shadow", Publish, "$aws/things/pump-1/shadow/name/config/update"},
		{"refused", Publish, "dt/pump-2/bme280"},
		{"receive", Receive, "cmd/pump-1/reboot"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Decide(c.action, c.resource)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	docs := []*Document{mustParse(b, string(ThingPolicy("000000000000", "eu-local-1")))}
	ctx := testContext()
	b.ReportAllocs()
	for b.Loop() {
		Compile(docs, ctx)
	}
}

func BenchmarkParse(b *testing.B) {
	doc := ThingPolicy("000000000000", "eu-local-1")
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(doc); err != nil {
			b.Fatal(err)
		}
	}
}
