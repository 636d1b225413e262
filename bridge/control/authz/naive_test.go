package authz

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The naive evaluator reads the JSON at each decision and compares whole ARNs
// by naiveMatch. It knows what the property test draws: no condition but
// StringEquals and StringNotEquals on the client id, no escapes.

type naiveStatement struct {
	Effect                string
	Action, NotAction     []string
	Resource, NotResource []string
	Condition             map[string]map[string]string
}

var naiveVariables = []string{"${iot:ClientId}", "${iot:Connection.Thing.ThingName}",
	"${iot:Connection.Thing.Attributes[site]}"}

// naiveExpand returns the pattern with * and ? encoded and the variables put
// in; ok is false if one has no value.
func naiveExpand(pattern string, ctx *Context) (string, bool) {
	out := encode(pattern)
	for _, v := range naiveVariables {
		if !strings.Contains(out, v) {
			continue
		}
		value, ok := "", false
		switch {
		case v == "${iot:ClientId}":
			value, ok = ctx.ClientID, ctx.ClientID != ""
		case ctx.Thing == nil || !ctx.Thing.Attached || ctx.Thing.Name != ctx.ClientID:
		case v == "${iot:Connection.Thing.ThingName}":
			value, ok = ctx.Thing.Name, true
		default:
			value, ok = ctx.Thing.Attributes["site"]
		}
		if !ok {
			return "", false
		}
		out = strings.ReplaceAll(out, v, value)
	}
	return out, true
}

func naiveDecide(t *rapid.T, docs []string, ctx *Context, action, resource string) Decision {
	kind := map[string]string{Connect: "client/", Publish: "topic/", RetainPublish: "topic/", Subscribe: "topicfilter/",
		Receive: "topic/"}[action]
	arn := func(r string) string { return "arn:aws:iot:" + ctx.Region + ":" + ctx.Account + ":" + kind + r }
	texts := []string{arn(resource)}
	if bare := sharedFilter(resource); action == Subscribe && bare != "" {
		texts = append(texts, arn(bare))
	}
	out := ImplicitDeny
	for _, doc := range docs {
		var d struct{ Statement []naiveStatement }
		if err := json.Unmarshal([]byte(doc), &d); err != nil {
			t.Fatal(err)
		}
		for _, s := range d.Statement {
			covers := func(list []string) bool {
				return slices.ContainsFunc(list, func(p string) bool {
					return naiveMatch(encode(strings.ToLower(p)), strings.ToLower(action))
				})
			}
			if s.Action != nil && !covers(s.Action) || s.NotAction != nil && covers(s.NotAction) {
				continue
			}
			unresolved := false
			matches := func(list []string, text string) bool {
				found := false
				for _, p := range list {
					enc, ok := naiveExpand(p, ctx)
					// Of another region, it excepts nothing whatever the variable is.
					unresolved = unresolved || !ok && !strings.Contains(p, ":there:")
					found = found || ok && naiveMatch(enc, text)
				}
				return found
			}
			var applies bool
			for i, text := range texts {
				one := s.Resource != nil && matches(s.Resource, text) || s.NotResource != nil &&
					!matches(s.NotResource, text)
				switch {
				case i == 0:
					applies = one
				case s.NotResource != nil && s.Effect == "Allow":
					applies = applies && one
				default:
					applies = applies || one
				}
			}
			if s.NotResource != nil && s.Effect == "Allow" && unresolved {
				applies = false
			}
			for op, keys := range s.Condition {
				for _, want := range keys {
					equal := ctx.ClientID != "" && ctx.ClientID == want
					applies = applies && equal == (op == "StringEquals")
				}
			}
			if applies && s.Effect == "Deny" {
				return ExplicitDeny
			}
			if applies {
				out = Allowed
			}
		}
	}
	return out
}

// TestAgreesWithNaive compares compiled decisions with those of an evaluator
// that is too simple to be wrong in the same way.
func TestAgreesWithNaive(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "b", "dev", "*", "?", "d?v", "+", "#", "${iot:ClientId}",
		"${iot:Connection.Thing.ThingName}", "${iot:Connection.Thing.Attributes[site]}", "$share", "g"})
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(word, 1, 4).Draw(t, "levels"), "/")
	})
	plain := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "dev", "+", "#", "dxv", "$share", "g", "*",
			"north"}), 1, 4).Draw(t, "levels")
		return strings.Join(levels, "/")
	})
	kinds := rapid.SampledFrom([]string{"client/", "topic/", "topicfilter/", "*", "top*", "t?pic/"})
	list := func(t *rapid.T, of *rapid.Generator[string], label string) []string {
		return rapid.SliceOfN(of, 1, 3).Draw(t, label)
	}
	arns := rapid.Custom(func(t *rapid.T) string {
		return "arn:aws:iot:" + rapid.SampledFrom([]string{"here", "h*", "there"}).Draw(t, "region") + ":1:" +
			kinds.Draw(t, "kind") + text.Draw(t, "text")
	})
	actions := rapid.SampledFrom([]string{"iot:Connect", "iot:Publish", "iot:*Publish", "iot:Subscribe", "iot:Receive",
		"iot:RetainPublish", "iot:*", "IOT:p?blish"})
	rapid.Check(t, func(t *rapid.T) {
		var docs []*Document
		var texts []string
		for range rapid.IntRange(1, 3).Draw(t, "documents") {
			var statements []string
			for range rapid.IntRange(1, 4).Draw(t, "statements") {
				s := map[string]any{"Effect": rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(t, "effect")}
				s[rapid.SampledFrom([]string{"Action", "Action", "Action", "NotAction"}).Draw(t,
					"action element")] = list(t, actions, "actions")
				s[rapid.SampledFrom([]string{"Resource", "Resource", "Resource", "NotResource"}).Draw(t,
					"resource element")] = list(t, arns, "resources")
				if op := rapid.SampledFrom([]string{"", "", "StringEquals", "StringNotEquals"}).Draw(t,
					"operator"); op != "" {
					s["Condition"] = map[string]any{op: map[string]string{"iot:ClientId": rapid.SampledFrom(
						[]string{"dev", "a"}).Draw(t, "value")}}
				}
				raw, err := json.Marshal(s)
				if err != nil {
					t.Fatal(err)
				}
				statements = append(statements, string(raw))
			}
			doc := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
			d, err := Parse([]byte(doc))
			if err != nil {
				t.Fatalf("%v: %s", err, doc)
			}
			docs, texts = append(docs, d), append(texts, doc)
		}
		// The same documents serve several connections, as in a bridge.
		for range 3 {
			ctx := Context{Account: "1", Region: "here",
				ClientID: rapid.SampledFrom([]string{"dev", "a", "+", "*", ""}).Draw(t, "client")}
			if rapid.Bool().Draw(t, "thing") {
				ctx.Thing = &Thing{Name: rapid.SampledFrom([]string{"dev", "a"}).Draw(t, "thing name"),
					Attached: rapid.Bool().Draw(t, "attached")}
				if rapid.Bool().Draw(t, "site") {
					ctx.Thing.Attributes = map[string]string{"site": rapid.SampledFrom([]string{"north", "*",
						"a/b"}).Draw(t, "site name")}
				}
			}
			e := Compile(docs, ctx)
			for range 10 {
				action := rapid.SampledFrom([]string{Connect, Publish, RetainPublish, Subscribe, Receive}).Draw(t,
					"asked")
				resource := plain.Draw(t, "resource")
				if action == Connect {
					if resource = ctx.ClientID; resource == "" {
						continue
					}
				}
				if got, want := e.Decide(action, resource), naiveDecide(t, texts, &ctx, action, resource); got != want {
					t.Fatalf("%s on %q: %s, naive: %s\n%+v %+v\n%s\n%s", action, resource, got, want, ctx, ctx.Thing,
						strings.Join(texts, "\n"), e.Explain(action, resource))
				}
			}
		}
	})
}

// BenchmarkDecide20 judges by 20 policies of four statements each, of the
// thing and of its groups, and reports the distribution.
func BenchmarkDecide20(b *testing.B) {
	var docs []*Document
	for i := range 20 {
		docs = append(docs, mustParse(b, here(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":["iot:Publish","iot:RetainPublish"],
				"Resource":["@topic/site%[1]d/*/${iot:Connection.Thing.ThingName}/*","@topic/dt/${iot:ClientId}/%[1]d/*"]},
			{"Effect":"Allow","Action":["iot:Subscribe"],"Resource":"@topicfilter/cmd/%[1]d/${iot:Connection.Thing.ThingName}/*"},
			{"Effect":"Allow","Action":["iot:Receive"],"Resource":"@topic/cmd/%[1]d/*"},
			{"Effect":"Deny","Action":["iot:*"],"Resource":["@topic/secret/%[1]d/*","@topicfilter/secret/%[1]d/*"],
				"Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"false"}}}]}`, i))))
	}
	ctx := testContext()
	ctx.ClientID, ctx.Thing = "thing-1", &Thing{Name: "thing-1", Attached: true}
	e := Compile(docs, ctx)
	topics := []string{"site19/a/thing-1/x", "dt/thing-1/19/x", "dt/other/3/x", "secret/4/x",
		"site3/a/b/c/d/e/f/g/h/thing-1/x", strings.Repeat("a/", 120) + "x"}
	took := make([]time.Duration, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		for _, topic := range topics {
			begin := time.Now()
			e.Decide(Publish, topic)
			if d := time.Since(begin); len(took) < cap(took) {
				took = append(took, d)
			}
		}
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(len(topics)), "ns/decision")
}

// BenchmarkCompileShared is what a connection costs: the documents are parsed and,
// where they have no variables, compiled.
func BenchmarkCompileShared(b *testing.B) {
	var docs []*Document
	for i := range 20 {
		docs = append(docs, mustParse(b,
			here(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish",`+
				`"iot:RetainPublish"],"Resource":["@topic/a/%[1]d/*","@topic/b/%[1]d/*","@topic/c/%[1]d/*"]}]}`,
				i))))
	}
	b.ReportAllocs()
	for b.Loop() {
		Compile(docs, testContext())
	}
}
