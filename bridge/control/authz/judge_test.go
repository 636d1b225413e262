package authz

import (
	"slices"
	"strings"
	"testing"
)

const arnHere = "arn:aws:kinesis:eu-local-1:000000000000:"

// statementOf is a document of one statement.
func statementOf(effect, action, resource, more string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `","Action":"` + action + `","Resource":"` +
		resource + `"` + more + `}]}`
}

func parsed(t testing.TB, texts ...string) (docs []*Document) {
	t.Helper()
	for _, text := range texts {
		d, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, d)
	}
	return docs
}

func TestJudge(t *testing.T) {
	all := statementOf("Allow", "*", "*", "")
	from := `,"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`
	for _, c := range []struct {
		name             string
		docs             []string
		action, resource string
		want             Decision
		some, all        bool // of Scope
	}{
		{"nothing", nil, "kinesis:PutRecord", arnHere + "stream/a", ImplicitDeny, false, false},
		{"all", []string{all}, "kinesis:PutRecord", arnHere + "stream/a", Allowed, true, true},
		{"all, of a new service", []string{all}, "sqs:SendMessage", "arn:aws:sqs:r:0:q", Allowed, true, true},
		{"case of actions", []string{statementOf("Allow", "Kinesis:putrecord", "*", "")}, "kinesis:PutRecord", "*",
			Allowed, true, true},
		{"another action", []string{statementOf("Allow", "kinesis:Put*", "*", "")}, "kinesis:GetRecords", "*",
			ImplicitDeny, false, false},
		{"another service", []string{statementOf("Allow", "iot:*", "*", "")}, "kinesis:ListStreams", "*", ImplicitDeny,
			false, false},
		{"one stream", []string{statementOf("Allow", "kinesis:*", arnHere+"stream/a*", "")}, "kinesis:PutRecord",
			arnHere + "stream/ab", Allowed, true, false},
		{"another stream", []string{statementOf("Allow", "kinesis:*", arnHere+"stream/a*", "")}, "kinesis:PutRecord",
			arnHere + "stream/b", ImplicitDeny, true, false},
		{"one stream, asked for none in particular",
			[]string{statementOf("Allow", "kinesis:*", arnHere+"stream/*", "")},
			"kinesis:ListStreams", "*", ImplicitDeny, true, false},
		{"another account", []string{statementOf("Allow", "kinesis:*", "arn:aws:kinesis:*:111111111111:*", "")},
			"kinesis:PutRecord", arnHere + "stream/a", ImplicitDeny, true, false},
		{"the deny comes first", []string{statementOf("Deny", "kinesis:*", arnHere+"stream/a", ""), all},
			"kinesis:PutRecord", arnHere + "stream/a", ExplicitDeny, true, false},
		{"the deny comes last", []string{all, statementOf("Deny", "kinesis:*", arnHere+"stream/a", "")},
			"kinesis:PutRecord", arnHere + "stream/a", ExplicitDeny, true, false},
		{"denied altogether", []string{all, statementOf("Deny", "kinesis:Put*", "*", "")}, "kinesis:PutRecord", "*",
			ExplicitDeny, false, false},
		{"the address", []string{statementOf("Allow", "*", "*", from)}, "kinesis:PutRecord", "*", Allowed, true, true},
		{"another address", []string{all, statementOf("Deny", "*", "*",
			`,"Condition":{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`)}, "kinesis:PutRecord", "*", ExplicitDeny,
			false, false},
		{"all but", []string{`{"Statement":{"Effect":"Allow","NotAction":"iot:*","NotResource":"` + arnHere +
			`stream/a"}}`}, "kinesis:PutRecord", arnHere + "stream/b", Allowed, true, false},
		{"what is left out", []string{`{"Statement":{"Effect":"Allow","NotAction":"iot:*","NotResource":"` + arnHere +
			`stream/a"}}`}, "kinesis:PutRecord", arnHere + "stream/a", ImplicitDeny, true, false},
		{"all but, asked for none in particular", []string{
			`{"Statement":{"Effect":"Allow","Action":"*","NotResource":"` + arnHere + `stream/a"}}`},
			"kinesis:ListStreams", "*", ImplicitDeny, true, false},
		{"denied all but, asked for none in particular", []string{all,
			`{"Statement":{"Effect":"Deny","Action":"*","NotResource":"` + arnHere + `stream/a"}}`},
			"kinesis:ListStreams", "*", ExplicitDeny, true, false},
		{"a variable", []string{statementOf("Allow", "kinesis:*", arnHere+"stream/${aws:username}", "")},
			"kinesis:PutRecord", arnHere + "stream/alice", Allowed, true, false},
		{"a variable without a value", []string{statementOf("Allow", "kinesis:*", arnHere+"stream/${aws:other}", "")},
			"kinesis:PutRecord", arnHere + "stream/${aws:other}", ImplicitDeny, true, false},
		{"an action of jobs by its newer name", []string{statementOf("Allow", "iotjobsdata:*", "*", "")},
			"iot:DescribeJobExecution", "arn:aws:iot:r:0:thing/t", Allowed, true, true},
	} {
		ctx := &Context{Account: "000000000000", Region: "eu-local-1", SourceIP: "10.1.2.3",
			Keys: map[string][]string{"aws:username": {"alice"}}}
		docs := parsed(t, c.docs...)
		if got := Judge(docs, ctx, c.action, c.resource); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if some, all := Scope(docs, ctx, c.action); some != c.some || all != c.all {
			t.Errorf("%s: scope %v %v, want %v %v", c.name, some, all, c.some, c.all)
		}
	}
}

func TestKeys(t *testing.T) {
	docs := parsed(t, statementOf("Allow", "*", "arn:aws:iot:*:*:thing/${aws:username}",
		`,"Condition":{"StringEquals":{"aws:UserAgent":"${iot:ClientId}"},"Bool":{"aws:SecureTransport":true}}`))
	want := []string{"aws:securetransport", "aws:useragent", "aws:username", "iot:clientid"}
	if got := docs[0].Keys(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// For the data plane Judge says of whole ARNs what an Evaluator says of names,
// Scope never contradicts it, and a Deny of all denies all.
func FuzzJudge(f *testing.F) {
	f.Add(statementOf("Allow", "iot:Publish", "arn:aws:iot:r:0:topic/a*", ""), "a/b")
	f.Add(statementOf("Deny", "iot:*", "arn:aws:iot:*:*:topic/${iot:ClientId}", ""), "me")
	f.Add(`{"Statement":{"Effect":"Allow","NotAction":"iot:Connect","NotResource":"arn:aws:iot:r:0:topic/a"}}`, "b")
	f.Fuzz(func(t *testing.T, doc, topic string) {
		d, err := Parse([]byte(doc))
		if err != nil || topic == "*" || strings.Contains(topic, "\xff") || strings.Contains(topic, "\xfe") {
			return
		}
		ctx := Context{Account: "0", Region: "r", ClientID: "me", SourceIP: "10.0.0.1"}
		docs := []*Document{d}
		arn := "arn:aws:iot:r:0:topic/" + topic
		got, want := Judge(docs, &ctx, Publish, arn), Compile(docs, ctx).Decide(Publish, topic)
		if got != want {
			t.Fatalf("%s of %q: %v, as a name %v", doc, arn, got, want)
		}
		some, all := Scope(docs, &ctx, Publish)
		if all && got != Allowed || got == Allowed && !some {
			t.Fatalf("%s of %q: %v, scope %v %v", doc, arn, got, some, all)
		}
		none := append(docs, parsed(t, statementOf("Deny", "*", "*", ""))...)
		if got := Judge(none, &ctx, Publish, arn); got != ExplicitDeny {
			t.Fatalf("%s of %q: %v", doc, arn, got)
		}
	})
}
