package authz

import (
	"slices"
	"strings"
)

// Judge says whether documents allow an action of any service on a resource, as
// IAM does for the policies of a user: action is "service:Name", resource a whole
// ARN, or "*" for nothing in particular. It reads the documents anew each time, a
// microsecond per statement; the Evaluator is for what is asked for every message.
//
// A statement that allows all but some resources (NotResource) does not allow "*",
// and one that denies all but some denies it. Without documents all is refused.
func Judge(docs []*Document, ctx *Context, action, resource string) Decision {
	low, out := strings.ToLower(action), ImplicitDeny
	parts := strings.SplitN(resource, ":", arnParts)
	for _, d := range docs {
		for i := range d.statements {
			s := &d.statements[i]
			if !s.deny && out == Allowed || !s.names(low) || !s.about(ctx, resource, parts) || !s.conditionsHold(ctx) {
				continue
			}
			if s.deny {
				return ExplicitDeny
			}
			out = Allowed
		}
	}
	return out
}

// Scope says for how much documents allow an action: for nothing at all, or for
// everything, so that Judge need not be asked about a resource.
func Scope(docs []*Document, ctx *Context, action string) (some, all bool) {
	low, denied := strings.ToLower(action), false
	for _, d := range docs {
		for i := range d.statements {
			s := &d.statements[i]
			if !s.names(low) || !s.conditionsHold(ctx) {
				continue
			}
			whole := !s.notResource && slices.ContainsFunc(s.resources, func(r resource) bool { return r.any })
			switch {
			case s.deny && whole:
				return false, false
			case s.deny:
				denied = true
			default:
				some, all = true, all || whole
			}
		}
	}
	return some, all && !denied
}

// names says whether the action element covers an action, in lower case.
func (s *statement) names(low string) bool {
	jobs, isJob := strings.CutPrefix(low, "iot:")
	for _, p := range s.actions {
		if matchGlob(p, low) || isJob && dataJob(jobs) && matchGlob(p, "iotjobsdata:"+jobs) {
			return !s.notAction
		}
	}
	return s.notAction
}

// dataJob says whether newer guides call an action of the service iot, in lower
// case, one of iotjobsdata.
func dataJob(name string) bool {
	for i := range known {
		if known[i].job && strings.EqualFold(known[i].name, name) {
			return true
		}
	}
	return false
}

// about says whether the resource element covers a resource, whose parts are
// given too.
func (s *statement) about(ctx *Context, text string, parts []string) bool {
	for i := range s.resources {
		switch covers, known := s.resources[i].covers(ctx, text, parts); {
		case covers:
			return !s.notResource
		case !known && s.notResource && !s.deny:
			return false // all but something unknown: nobody can say for what
		}
	}
	return s.notResource && (s.deny || text != "*")
}

// covers says whether an ARN is one of r. known is false if a variable of r has no
// value, and then no ARN is.
func (r *resource) covers(ctx *Context, text string, parts []string) (match, known bool) {
	if r.any {
		return true, true
	}
	if len(parts) < arnParts {
		return false, true
	}
	for i, t := range r.parts {
		want, _, ok := t.expand(ctx)
		if !ok {
			return false, false
		}
		if !matchPart(want, i, parts[i]) {
			return false, true
		}
	}
	return true, true // tail: the last part given ends in *
}

func (s *statement) conditionsHold(ctx *Context) bool {
	for i := range s.conditions {
		if !s.conditions[i].holds(ctx, false, s.deny) {
			return false
		}
	}
	return true
}

// Keys lists the condition keys and variables that a document asks for, in lower
// case, sorted.
func (d *Document) Keys() []string {
	all := map[string]bool{}
	variables := func(ts []template) {
		for _, t := range ts {
			for _, p := range t {
				if p.variable != "" {
					all[p.variable] = true
				}
			}
		}
	}
	for i := range d.statements {
		s := &d.statements[i]
		for _, r := range s.resources {
			variables(r.parts)
		}
		for _, c := range s.conditions {
			all[c.key] = true
			for _, v := range c.values {
				variables([]template{v.text})
			}
		}
	}
	return sorted(all)
}
