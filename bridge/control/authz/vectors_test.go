package authz

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/conformance"
)

type vector struct {
	ID, Group  string
	Context    json.RawMessage
	Policies   []json.RawMessage
	Groups     map[string]vectorGroup
	Requests   []vectorRequest
	Policy     json.RawMessage
	PolicyText *string
	Expect     string
}

type vectorGroup struct {
	Parent   string
	Policies []json.RawMessage
}

type vectorRequest struct {
	Action, Resource, Expect string
	With                     json.RawMessage
}

type vectorContext struct {
	ClientID *string
	Thing    *struct {
		Name       string
		Type       *string
		Attributes map[string]string
		Groups     []string
		Attached   bool
	}
	Certificate *struct {
		ID, Serial                      string
		Subject, Issuer, SAN, IssuerSAN map[string][]string
	}
	SourceIP, Account, Region, Protocol string
	ProtocolFlags                       struct {
		Persistent bool
		Will       *string
	}
	Time *time.Time
	Keys map[string]any
}

// outcome returns what the package makes of a vector: VALID or MALFORMED, or
// the decisions in order. A document that Parse refuses is attached to nothing.
func (v *vector) outcome(t testing.TB) []string {
	t.Helper()
	if v.Group == "document" {
		text := []byte(v.Policy)
		if v.PolicyText != nil {
			text = []byte(*v.PolicyText)
		}
		if _, err := Parse(text); err != nil {
			return []string{"MALFORMED"}
		}
		return []string{"VALID"}
	}
	var out []string
	for _, r := range v.Requests {
		var c vectorContext
		for _, raw := range []json.RawMessage{v.Context, r.With} {
			if raw != nil {
				if err := json.Unmarshal(raw, &c); err != nil {
					t.Fatalf("%s: %v", v.ID, err)
				}
			}
		}
		ctx, docs := v.compile(&c, r)
		e := Compile(docs, ctx)
		d := e.Decide(r.Action, r.Resource)
		if x := e.Explain(r.Action, r.Resource); x.Decision != d || (len(x.Deciding()) == 0) != (d == ImplicitDeny) {
			t.Errorf("%s: decided %s, explained\n%s", v.ID, d, x)
		}
		out = append(out, d.String())
	}
	return out
}

func (v *vector) compile(c *vectorContext, r vectorRequest) (Context, []*Document) {
	ctx := Context{Account: c.Account, Region: c.Region, SourceIP: c.SourceIP, Persistent: c.ProtocolFlags.Persistent}
	if c.ClientID != nil {
		ctx.ClientID = *c.ClientID
	}
	if r.Action == Connect {
		ctx.ClientID = r.Resource
	}
	if c.ProtocolFlags.Will != nil {
		ctx.Will = *c.ProtocolFlags.Will
	}
	if c.Time != nil {
		ctx.Now = func() time.Time { return *c.Time }
	}
	if len(c.Keys) > 0 {
		ctx.Keys = map[string][]string{}
		for k, x := range c.Keys {
			ctx.Keys[k] = []string{fmt.Sprint(x)}
		}
	}
	if x := c.Certificate; x != nil {
		ctx.Certificate = &Certificate{ID: x.ID, Serial: x.Serial, Subject: x.Subject, Issuer: x.Issuer,
			SubjectAlternative: x.SAN, IssuerAlternative: x.IssuerSAN}
	}
	raw := slices.Clone(v.Policies)
	if x := c.Thing; x != nil {
		ctx.Thing = &Thing{Name: x.Name, Attributes: x.Attributes, Attached: x.Attached}
		if x.Type != nil {
			ctx.Thing.Type = *x.Type
		}
		if x.Attached && x.Name == ctx.ClientID {
			seen := map[string]bool{}
			for _, g := range x.Groups {
				for ; g != "" && !seen[g]; g = v.Groups[g].Parent {
					seen[g] = true
					raw = append(raw, v.Groups[g].Policies...)
				}
			}
		}
	}
	var docs []*Document
	for _, p := range raw {
		if d, err := Parse(p); err == nil {
			docs = append(docs, d)
		}
	}
	return ctx, docs
}

func (v *vector) want() []string {
	if v.Group == "document" {
		return []string{v.Expect}
	}
	var out []string
	for _, r := range v.Requests {
		out = append(out, r.Expect)
	}
	return out
}

func TestVectors(t *testing.T) {
	type total struct{ pass, all int }
	totals := map[string]total{}
	for _, v := range conformance.All[vector](t, "policy.jsonl") {
		n := totals[v.Group]
		n.all++
		if got := v.outcome(t); slices.Equal(got, v.want()) {
			n.pass++
		} else {
			t.Errorf("%s:\n got %v\nwant %v", v.ID, got, v.want())
		}
		totals[v.Group] = n
	}
	var sum total
	for _, g := range slices.Sorted(maps.Keys(totals)) {
		t.Logf("%-16s %3d of %3d", g, totals[g].pass, totals[g].all)
		sum.pass, sum.all = sum.pass+totals[g].pass, sum.all+totals[g].all
	}
	t.Logf("%-16s %3d of %3d", "all", sum.pass, sum.all)
}

var shortNames = map[string]string{"ALLOWED": "allow", "EXPLICIT_DENY": "deny", "IMPLICIT_DENY": "refuse",
	"VALID": "valid", "MALFORMED": "malformed"}

// TestDecisions compares DECISIONS.md with what the code does on the vectors
// where AWS's guide leaves room.
func TestDecisions(t *testing.T) {
	page, err := os.ReadFile("DECISIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if c := strings.Split(line, "|"); len(c) >= 5 && strings.HasPrefix(strings.TrimSpace(c[1]), "q-") {
			table[strings.TrimSpace(c[1])] = strings.TrimSpace(c[2])
		}
	}
	agree, all := 0, 0
	for _, v := range conformance.All[vector](t, "policy-doubtful.jsonl") {
		short := func(list []string) string {
			var out []string
			for _, s := range list {
				out = append(out, shortNames[s])
			}
			return strings.Join(out, ", ")
		}
		got, lean := short(v.outcome(t)), short(v.want())
		all++
		if got == lean {
			agree++
		}
		if got != lean {
			got += " (vector leans to " + lean + ")"
		}
		if table[v.ID] != got {
			t.Errorf("%s: DECISIONS.md has %q, the code does %q", v.ID, table[v.ID], got)
		}
		delete(table, v.ID)
	}
	if len(table) > 0 {
		t.Errorf("DECISIONS.md has rows without a vector: %v", slices.Sorted(maps.Keys(table)))
	}
	t.Logf("%d of %d as the vectors lean", agree, all)
}
