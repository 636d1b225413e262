package aws

import (
	"net/http"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/authz"
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
	// Whole says whether that is every operation of every service. Others have
	// the data plane alone.
	Whole() bool
}

// grants lets access keys do what is granted to them: all, or the data plane as
// far as policies allow. It implements wire.Authorizer.
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

// Admit implements wire.Authorizer.
func (g grants) Admit(q wire.Question) (all bool, err error) {
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
	if whole(q.Caller) {
		return nil
	}
	if c, ok := q.Caller.(Caller); ok && g.data[q.Action] && c.May(q.Action, named(q.Resource)) {
		return nil
	}
	return wire.ErrDenied
}

// named is what an ARN names: what comes behind its kind.
func named(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return arn
	}
	_, name, _ := strings.Cut(parts[5], "/")
	return name
}
