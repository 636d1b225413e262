package aws

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// A Caller is who sends a request, with its rights to AWS IoT's data plane. Its
// methods may be called from several goroutines.
type Caller interface {
	wire.Caller
	// May says whether policy allows an action of package authz. The resource is
	// the part of an ARN that names it: a topic, a thing.
	May(action, resource string) bool
}

// A Key is what an access key may do.
type Key interface {
	Caller
	// Whole says whether that is every operation of every service.
	Whole() bool
	// Person has the rights of the key's user, of any service; nil for a key without
	// one, which has the data plane alone if it is not Whole.
	Person() *people.Rights
}

// grants lets users do what their policies allow, and other access keys what is
// granted to them: all, or the data plane as far as policies allow. It implements
// wire.Authorizer.
type grants struct {
	data map[string]bool // actions of the data plane
}

// add makes the operations of s some of the data plane.
func (g grants) add(s *wire.Service) {
	g.data[authz.RetainPublish] = true // asked besides by Publish
	for _, op := range s.Operations {
		g.data[s.Name+":"+op.Name] = true
	}
}

var errNotGranted = &wire.Error{Code: "AccessDeniedException", Status: http.StatusForbidden,
	Message: "this is not granted to the access key: [[access]] names it with policies, " +
		"which are for AWS IoT's data plane alone, or not at all"}

func whole(c wire.Caller) bool {
	k, ok := c.(Key)
	return ok && k.Whole()
}

// person has the rights of a caller that is a user, nil for others.
func person(c wire.Caller) *people.Rights {
	if k, ok := c.(Key); ok {
		return k.Person()
	}
	return nil
}

// conditionsOf is what conditions of people's policies may ask of a request.
func conditionsOf(q wire.Question) authz.Context {
	c := q.Conditions
	keys := map[string][]string{"aws:requestedregion": {c.Region}}
	if c.UserAgent != "" {
		keys["aws:useragent"] = []string{c.UserAgent}
	}
	return authz.Context{SourceIP: c.SourceIP, Insecure: !c.Secure, Keys: keys}
}

// A refusal says in IAM's words what a user may not do. It is a wire.ErrDenied.
type refusal struct{ user, action, resource string }

func (e refusal) Error() string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s", e.user, e.action, e.resource)
}

func (e refusal) Is(target error) bool { return target == wire.ErrDenied }

// Admit implements wire.Authorizer.
func (g grants) Admit(q wire.Question) (all bool, err error) {
	if p := person(q.Caller); p != nil {
		some, all := p.Scope(q.Action, conditionsOf(q))
		if !some {
			return false, refusal{p.User(), q.Action, "*"}
		}
		return all, nil
	}
	switch {
	case whole(q.Caller):
		return true, nil
	case !g.data[q.Action]:
		return false, errNotGranted
	}
	return false, nil
}

// Authorize implements wire.Authorizer.
func (g grants) Authorize(q wire.Question) error {
	if p := person(q.Caller); p != nil {
		if !p.Allow(q.Action, q.Resource, conditionsOf(q)) {
			return refusal{p.User(), q.Action, q.Resource}
		}
		return nil
	}
	if whole(q.Caller) {
		return nil
	}
	if c, ok := q.Caller.(Caller); ok && g.data[q.Action] && c.May(q.Action, named(q.Resource)) {
		return nil
	}
	return wire.ErrDenied
}

// named is what an ARN names: what comes behind its kind.
func named(text string) string {
	n, ok := arn.Parse(text)
	if !ok {
		return text
	}
	_, name, _ := strings.Cut(n.Resource, "/")
	return name
}
