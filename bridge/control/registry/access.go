package registry

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/authz"
)

// An EffectivePolicy is a policy in effect, by its default version.
type EffectivePolicy struct {
	Name     string   `json:"policy"`
	Version  int      `json:"version"`
	Document []byte   `json:"-"`
	From     []string `json:"from"` // cert/{id} and thinggroup/{name} that it is attached to
}

// EffectivePolicies returns what is in effect for a certificate, a thing, or a
// certificate that connects as a thing: then the groups' policies count only if
// it is attached to it. One of the two may be empty. They are sorted by name.
func (t *Tx) EffectivePolicies(certificate, thing string) ([]EffectivePolicy, error) {
	if certificate == "" && thing == "" {
		return nil, fmt.Errorf("effective policies: %w: want a certificate or a thing", ErrInvalid)
	}
	from := map[string][]string{}
	if certificate != "" {
		if _, err := t.Certificate(certificate); err != nil {
			return nil, err
		}
		for _, p := range t.links(bCertPolicies, certificate) {
			from[p] = append(from[p], targetCertificate+certificate)
		}
	}
	if thing != "" {
		th, err := t.Thing(thing)
		if err != nil {
			return nil, err
		}
		if certificate == "" || t.linked(bThingCerts, thing, certificate) {
			groups, err := t.lineages(th.Groups)
			if err != nil {
				return nil, err
			}
			for _, g := range groups {
				for _, p := range t.links(bGroupPolicies, g) {
					from[p] = append(from[p], targetGroup+g)
				}
			}
		}
	}
	var out []EffectivePolicy
	for name, targets := range from {
		p, err := t.Policy(name)
		if err != nil {
			return nil, err
		}
		doc, err := t.PolicyDocument(name, 0)
		if err != nil {
			return nil, err
		}
		out = append(out, EffectivePolicy{name, p.Default, doc, targets})
	}
	slices.SortFunc(out, func(a, b EffectivePolicy) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// lineages returns groups and all above them, sorted.
func (t *Tx) lineages(groups []string) (all []string, err error) {
	for _, g := range groups {
		line, err := t.ancestry(g)
		if err != nil {
			return nil, err
		}
		all = append(all, line...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// maxAuthInfos is how many questions TestAuthorization takes (API).
const maxAuthInfos = 10

// An AuthTest asks what a connection might do.
type AuthTest struct {
	Certificate string // id; its state is not looked at
	ClientID    string // for all but CONNECT, which is asked for the client ids themselves
	Add, Skip   []string
	Infos       []AuthInfo
	Known       authz.Context // account, region and what else is known of the connection
}

// An AuthInfo is one question.
type AuthInfo struct {
	Action    string   `json:"actionType"` // PUBLISH, SUBSCRIBE, RECEIVE or CONNECT
	Resources []string `json:"resources"`  // topics, filters or client ids, or their ARNs
}

// An AuthResult is the answer to an AuthInfo. All resources must be allowed for
// it to be ALLOWED, and one that is denied is enough for EXPLICIT_DENY.
type AuthResult struct {
	Info     AuthInfo
	Decision authz.Decision
	Allowed  []string // policies that allow one of the resources
	Denied   []string // policies that deny one
	Implicit []string // policies that were asked about one which nothing allows or denies
	Missing  []string // variables and condition keys without a value

	Explanations []authz.Explanation // one for each resource
}

var authActions = map[string]struct{ action, kind string }{
	"PUBLISH": {authz.Publish, "topic/"}, "SUBSCRIBE": {authz.Subscribe, "topicfilter/"},
	"RECEIVE": {authz.Receive, "topic/"}, "CONNECT": {authz.Connect, "client/"},
}

// TestAuthorization answers by the evaluator that judges connections. An
// unknown certificate or policy is ErrNotFound, a wrong question ErrInvalid.
func (t *Tx) TestAuthorization(q AuthTest) ([]AuthResult, error) {
	if n := len(q.Infos); n == 0 || n > maxAuthInfos {
		return nil, fmt.Errorf("test authorization: %d questions, want 1 to %d: %w", n, maxAuthInfos, ErrInvalid)
	}
	var out []AuthResult
	for _, info := range q.Infos {
		r, err := t.testOne(&q, info)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (t *Tx) testOne(q *AuthTest, info AuthInfo) (AuthResult, error) {
	r := AuthResult{Info: info, Decision: authz.Allowed}
	what, ok := authActions[info.Action]
	if !ok {
		return r, fmt.Errorf("action %q: %w: want PUBLISH, SUBSCRIBE, RECEIVE or CONNECT", info.Action, ErrInvalid)
	}
	if len(info.Resources) == 0 {
		return r, fmt.Errorf("action %s: no resource: %w", info.Action, ErrInvalid)
	}
	for _, text := range info.Resources {
		resource, err := bareResource(text, arn.IoT(q.Known.Region, q.Known.Account, what.kind))
		if err != nil {
			return r, err
		}
		client := q.ClientID
		if info.Action == "CONNECT" {
			client = resource
		}
		who, err := t.who(q.Certificate, client)
		if err != nil {
			return r, err
		}
		if err := t.amend(who, q.Add, q.Skip); err != nil {
			return r, err
		}
		known := q.Known
		if known.Certificate, err = t.shown(q.Certificate); err != nil {
			return r, err
		}
		x := who.Evaluator(known).Explain(what.action, resource)
		r.Explanations = append(r.Explanations, x)
		r.Missing = append(r.Missing, x.Missing...)
		names := &r.Implicit
		switch x.Decision {
		case authz.Allowed:
			names = &r.Allowed
		case authz.ExplicitDeny:
			names, r.Decision = &r.Denied, authz.ExplicitDeny
		default:
			*names = append(*names, who.Policies...)
			if r.Decision == authz.Allowed {
				r.Decision = authz.ImplicitDeny
			}
		}
		for _, s := range x.Deciding() {
			*names = append(*names, policyOf(s))
		}
	}
	for _, list := range []*[]string{&r.Allowed, &r.Denied, &r.Implicit, &r.Missing} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return r, nil
}

// policyOf returns the name of the policy that a step is about.
func policyOf(s authz.Step) string {
	name, _, _ := strings.Cut(s.Policy, ":") // a document's name is policy:version
	return name
}

func bareResource(text, head string) (string, error) {
	if rest, ok := strings.CutPrefix(text, head); ok {
		text = rest
	} else if arn.Is(text) {
		return "", fmt.Errorf("resource %q: %w: want %s…", text, ErrInvalid, head)
	}
	if text == "" {
		return "", fmt.Errorf("resource: empty: %w", ErrInvalid)
	}
	return text, nil
}

// amend adds policies as if they were attached, and takes others away.
func (t *Tx) amend(who *Identity, add, skip []string) error {
	for _, name := range add {
		if !slices.Contains(who.Policies, name) {
			who.Policies = append(who.Policies, name)
		}
	}
	who.Policies = slices.DeleteFunc(who.Policies, func(p string) bool { return slices.Contains(skip, p) })
	slices.Sort(who.Policies)
	who.Documents = nil
	return t.readDocuments(who)
}

// shown returns what policies may ask of a registered certificate.
func (t *Tx) shown(id string) (*authz.Certificate, error) {
	text, err := t.CertificatePEM(id)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("certificate %s: %w", id, ErrCorrupt)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w: %w", id, ErrCorrupt, err)
	}
	return authz.NewCertificate(id, cert), nil
}

// An Access is one way in which a certificate may do something.
type Access struct {
	Certificate string  `json:"certificate"`
	Thing       string  `json:"thing,omitempty"`  // it connects as this thing
	ClientID    string  `json:"client,omitempty"` // or as a client id of this pattern; empty: over HTTPS
	Grants      []Grant `json:"grants"`           // all statements that allow it
	// what policies ask for that is not known here, such as aws:sourceip
	Missing []string `json:"missing,omitempty"`
}

// A Grant is a statement that allows something.
type Grant struct {
	Policy    string `json:"policy"`
	Statement int    `json:"statement"` // from 1
	Sid       string `json:"sid,omitempty"`
	Resource  string `json:"resource"` // the pattern that matches
}

// maxLevels bounds the client ids that are taken from a topic.
const maxLevels = 32

// WhoCan calls yield for all ways in which ACTIVE certificates may do action
// (authz.Publish, Subscribe, Receive or Connect) on resource, ordered by
// certificate, until yield returns false. Whoever needs a connection for it
// must be allowed to make it. It reads in pages and so sees changes made
// meanwhile; its memory doesn't grow with the registry.
//
// Certificates connect as the things they are attached to and, where policies
// let them, as other client ids: those that policies name, and where a policy
// has the client id as a variable, those that are a level of the resource.
func (r *Registry) WhoCan(action, resource string, known authz.Context, yield func(Access) bool) error {
	for after := ""; ; {
		var next string
		var found []Access
		err := r.View(func(tx *Tx) error {
			page, n, err := tx.Certificates(after, MaxPage)
			if err != nil {
				return err
			}
			next = n
			for _, c := range page {
				if c.Status != Active {
					continue
				}
				if found, err = tx.accesses(found, c.ID, action, resource, known); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, a := range found { // outside of the transaction: a slow reader must not hold it
			if !yield(a) {
				return nil
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

func (t *Tx) accesses(out []Access, id, action, resource string, known authz.Context) ([]Access, error) {
	var err error
	if known.Certificate, err = t.shown(id); err != nil {
		return out, err
	}
	things := t.links(bCertThings, id)
	for _, th := range things {
		who, err := t.who(id, th)
		if err != nil {
			return out, err
		}
		if a, ok := access(who, action, resource, known, true); ok {
			a.Thing = th
			out = append(out, a)
		}
	}
	who, err := t.who(id, "") // of no thing: the certificate's own policies
	if err != nil {
		return out, err
	}
	for _, p := range otherClients(who.Documents, action, resource, known) {
		if slices.Contains(things, p.Example) {
			continue
		}
		// A client id that names a thing of others has none of its rights.
		who.ClientID = p.Example
		if a, ok := access(who, action, resource, known, true); ok {
			a.ClientID = p.Text
			out = append(out, a)
		}
	}
	if action == authz.Publish {
		who.ClientID = ""
		if a, ok := access(who, action, resource, known, false); ok {
			out = append(out, a)
		}
	}
	return out, nil
}

// otherClients returns the client ids to try beside those of things.
func otherClients(docs []*authz.Document, action, resource string, known authz.Context) []authz.ClientPattern {
	if action == authz.Connect {
		return []authz.ClientPattern{{Text: resource, Example: resource}}
	}
	out := authz.ClientPatterns(docs, known)
	if slices.ContainsFunc(docs, (*authz.Document).NamesClient) {
		levels := strings.SplitN(resource, "/", maxLevels)
		slices.Sort(levels)
		for _, l := range slices.Compact(levels) {
			if l != "" && !slices.ContainsFunc(out, func(p authz.ClientPattern) bool { return p.Example == l }) {
				out = append(out, authz.ClientPattern{Text: l, Example: l})
			}
		}
	}
	return out
}

func access(who *Identity, action, resource string, known authz.Context, connects bool) (a Access, ok bool) {
	if action == authz.Connect && who.ClientID != resource || len(who.Documents) == 0 {
		return a, false
	}
	e := who.Evaluator(known)
	if connects && !e.Allows(authz.Connect, who.ClientID) || !e.Allows(action, resource) {
		return a, false
	}
	x := e.Explain(action, resource)
	a = Access{Certificate: who.Certificate.ID, Missing: x.Missing}
	for _, s := range x.Deciding() {
		a.Grants = append(a.Grants, Grant{policyOf(s), s.Statement, s.Sid, s.Reason})
	}
	return a, true
}
