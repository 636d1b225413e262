package authz

import (
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// An Evaluator holds the policies of one connection, ready to decide. It
// doesn't change; several goroutines may use it.
type Evaluator struct {
	docs  []*Document
	ctx   Context
	rules [kinds][]rule // denying ones first
}

// A rule is what remains of a statement for one kind of resource when the
// connection is known.
type rule struct {
	mask    uint32 // bits of known
	deny    bool
	not     bool // applies where no glob matches
	globs   []glob
	dynamic []*condition // on the time: asked at each decision
}

// Compile puts ctx into the documents. Its cost is a few microseconds per
// statement; do it once per connection, and again when the policies, the thing
// or the certificate change. ctx.Thing and ctx.Certificate must not change
// afterwards. Without documents, everything is refused.
func Compile(docs []*Document, ctx Context) *Evaluator {
	e := &Evaluator{docs: docs, ctx: ctx}
	for _, d := range docs {
		for i := range d.statements {
			e.add(&d.statements[i])
		}
	}
	for k := range e.rules {
		slices.SortStableFunc(e.rules[k], func(a, b rule) int {
			switch {
			case a.deny == b.deny:
				return 0
			case a.deny:
				return -1
			}
			return 1
		})
	}
	return e
}

// kindMask holds the actions of each kind of resource.
var kindMask = func() (m [kinds]uint32) {
	for i, a := range known {
		m[a.kind] |= 1 << i
	}
	return m
}()

// add compiles one statement, Connect apart from the rest: conditions on the
// CONNECT packet hold for it alone.
func (e *Evaluator) add(s *statement) {
	const connectMask = 1 << bitConnect
	for _, connect := range [...]bool{true, false} {
		mask := s.mask &^ connectMask
		if connect {
			mask = s.mask & connectMask
		}
		if mask == 0 {
			continue
		}
		dynamic, ok := e.settle(s, connect)
		if !ok {
			continue
		}
		for k := range kinds {
			if mask&kindMask[k] == 0 {
				continue
			}
			if r, ok := e.rule(s, k); ok {
				r.mask, r.dynamic = mask&kindMask[k], dynamic
				e.rules[k] = append(e.rules[k], r)
			}
		}
	}
}

// settle evaluates the conditions that cannot change and returns the others.
// ok is false if one does not hold.
func (e *Evaluator) settle(s *statement, connect bool) (dynamic []*condition, ok bool) {
	for i := range s.conditions {
		c := &s.conditions[i]
		switch {
		case timeKey(c.key):
			dynamic = append(dynamic, c)
		case !c.holds(&e.ctx, connect, s.deny):
			return nil, false
		}
	}
	return dynamic, true
}

// sharedRules are those of a statement without variables, for one account and
// region: a process has one of each.
type sharedRules struct {
	account, region string
	rules           [kinds]rule
	ok              [kinds]bool
}

// rule compiles the resources of s for one kind. ok is false if no resource of
// that kind can match.
func (e *Evaluator) rule(s *statement, k kind) (r rule, ok bool) {
	if s.shared == nil {
		return e.compile(s, k)
	}
	all := s.shared.Load()
	if all == nil || all.account != e.ctx.Account || all.region != e.ctx.Region {
		all = &sharedRules{account: e.ctx.Account, region: e.ctx.Region}
		for k := range kinds {
			all.rules[k], all.ok[k] = e.compile(s, k)
		}
		s.shared.Store(all)
	}
	return all.rules[k], all.ok[k]
}

func (e *Evaluator) compile(s *statement, k kind) (r rule, ok bool) {
	r = rule{deny: s.deny, not: s.notResource}
	for i := range s.resources {
		res := &s.resources[i]
		rest, unresolved, match := res.expand(&e.ctx)
		switch {
		case unresolved != "" && s.notResource && !s.deny:
			// Allow for all but something unknown: nobody can say for what.
			return r, false
		case !match, k == kindAny && !res.any:
			continue
		}
		for _, p := range residues(rest, kindHead[k]) {
			r.globs = append(r.globs, newGlob(p))
		}
	}
	return r, r.not || len(r.globs) > 0
}

// Decide says whether action is allowed on resource: the bare topic, filter,
// client id, thing (name or name/shadow) or role alias, * for the List
// actions. An action it doesn't know is refused. Decide allocates nothing,
// unless a condition asks for the time.
//
// For Connect, resource must be the Context's ClientID. A shared subscription
// ($share/group/filter) is allowed and denied by its whole text or by the filter.
func (e *Evaluator) Decide(action, resource string) Decision {
	i := actionBit(action)
	if i < 0 {
		return ImplicitDeny
	}
	var bare string // the filter of a shared subscription
	k, bit := known[i].kind, uint32(1)<<i
	if k == kindFilter {
		bare = sharedFilter(resource)
	}
	for r := range e.rules[k] {
		r := &e.rules[k][r]
		if r.mask&bit == 0 || !r.covers(resource, bare) || !e.now(r) {
			continue
		}
		if r.deny {
			return ExplicitDeny
		}
		return Allowed
	}
	return ImplicitDeny
}

// Allows is Decide for callers that need no more than yes or no.
func (e *Evaluator) Allows(action, resource string) bool {
	return e.Decide(action, resource) == Allowed
}

// covers says whether the rule applies to a resource, or to the filter of a
// shared subscription. Where NotResource names one of the two, an Allow does not
// reach the subscription, and a Deny does.
func (r *rule) covers(resource, bare string) bool {
	if bare == "" {
		return r.applies(resource)
	}
	if r.not && !r.deny {
		return r.applies(resource) && r.applies(bare)
	}
	return r.applies(resource) || r.applies(bare)
}

func (r *rule) applies(resource string) bool {
	for i := range r.globs {
		if r.globs[i].match(resource) {
			return !r.not
		}
	}
	return r.not
}

// now evaluates the conditions on the time.
func (e *Evaluator) now(r *rule) bool {
	for _, c := range r.dynamic {
		if !c.holds(&e.ctx, r.mask&(1<<bitConnect) != 0, r.deny) {
			return false
		}
	}
	return true
}

// sharedFilter returns the filter of $share/group/filter, empty for any other text.
func sharedFilter(filter string) string {
	group, bare, ok := topic.CutShare(filter)
	if ok && group == "" {
		return ""
	}
	return bare
}
