// Package people is the table of who may use the bridge's APIs: users, their access
// keys, and what both may do.
//
// A [Directory] has all of them in memory, as the registry has them on disk, and
// changes them. [Rights] are what a user or a key may do, by policies that are read
// as IAM's: of roles, which are policies themselves (roles/*.json), and of inline
// ones. A Deny wins, and what nothing allows is denied.
//
// A change is durable, with the audit record of its context, and holds for the next
// question, when the function that makes it returns. When a key was used last is written some minutes later.
package people

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

//go:embed roles
var roleFiles embed.FS

// The names of roles.
const (
	Admin      = "admin"
	Operator   = "operator"
	Viewer     = "viewer"
	DeviceData = "device-data"
)

// Roles are all of them.
var Roles = []string{Admin, Operator, Viewer, DeviceData}

// roles are their policies.
var roles = func() map[string]*authz.Document {
	all := map[string]*authz.Document{}
	for _, name := range Roles {
		doc, err := RolePolicy(name)
		if err == nil {
			all[name], err = authz.Parse(doc)
		}
		if err != nil {
			panic(fmt.Sprintf("people: role %s: %v", name, err)) // part of the program
		}
		all[name].Name = "role " + name
	}
	return all
}()

// RolePolicy is the policy of a role as it is written down.
func RolePolicy(role string) ([]byte, error) { return roleFiles.ReadFile("roles/" + role + ".json") }

// errRole is the error of a role that there is not.
func errRole(name string) error {
	return fmt.Errorf("role %.60q: %w: want one of %s", name, registry.ErrInvalid, strings.Join(Roles, ", "))
}

// conditionKeys are what policies of people may ask of a request. Others, as of
// things and certificates, nobody here has: a Deny by one would never hold.
var conditionKeys = []string{"aws:currenttime", "aws:epochtime", "aws:requestedregion", "aws:securetransport",
	"aws:sourceip", "aws:useragent", "aws:username", "iot:clientid"}

// ParsePolicy reads a policy of a user or a key: an IAM policy in whose conditions
// and variables nothing stands that is not known of people. Whether its actions exist
// is asked when it is given to somebody (check).
func ParsePolicy(doc []byte) (*authz.Document, error) {
	d, err := authz.Parse(doc)
	if err != nil {
		return nil, err
	}
	for _, key := range d.Keys() {
		if !slices.Contains(conditionKeys, key) {
			return nil, fmt.Errorf("%w: %q is no condition key or variable of people's policies: want one of %s",
				authz.ErrMalformed, key, strings.Join(conditionKeys, ", "))
		}
	}
	return d, nil
}

// parseAll reads inline policies, by name.
func parseAll(policies map[string]json.RawMessage) (docs []*authz.Document, err error) {
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		d, err := ParsePolicy(policies[name])
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", name, err)
		}
		d.Name = name
		docs = append(docs, d)
	}
	return docs, nil
}

// Rights are what somebody may do. They do not change; several goroutines may use
// them.
type Rights struct {
	user   string // "" for who is none
	docs   []*authz.Document
	narrow []*authz.Document // that must allow it too; nil: none
}

// RightsOf are those of roles without a user.
func RightsOf(names []string) (*Rights, error) {
	r := &Rights{}
	for _, name := range names {
		if roles[name] == nil {
			return nil, errRole(name)
		}
		r.docs = append(r.docs, roles[name])
	}
	return r, nil
}

// rightsOfUser are those of a user.
func rightsOfUser(u registry.User) (*Rights, error) {
	r, err := RightsOf(u.Roles)
	if err != nil {
		return nil, err
	}
	docs, err := parseAll(u.Policies)
	r.user, r.docs = u.Name, append(r.docs, docs...)
	return r, err
}

// RightsOfPolicies are those of somebody with that name who is no user, such as a function.
func RightsOfPolicies(name string, docs []*authz.Document) *Rights {
	return &Rights{user: name, docs: docs}
}

// User is whose they are, "" for who is none.
func (r *Rights) User() string { return r.user }

// context is known with what is known of the user.
func (r *Rights) context(known authz.Context) *authz.Context {
	if r.user != "" {
		keys := map[string][]string{"aws:username": {r.user}}
		maps.Copy(keys, known.Keys)
		known.Keys = keys
	}
	return &known
}

// Allow says whether an action of a service, "kinesis:PutRecord", is allowed on a
// resource: an ARN, or "*" for none in particular. known is what conditions may ask.
func (r *Rights) Allow(action, resource string, known authz.Context) bool {
	ctx := r.context(known)
	return authz.Judge(r.docs, ctx, action, resource) == authz.Allowed &&
		(r.narrow == nil || authz.Judge(r.narrow, ctx, action, resource) == authz.Allowed)
}

// Scope says for how much an action is allowed: for nothing at all, or for every
// resource.
func (r *Rights) Scope(action string, known authz.Context) (some, all bool) {
	ctx := r.context(known)
	some, all = authz.Scope(r.docs, ctx, action)
	if some && r.narrow != nil {
		more, whole := authz.Scope(r.narrow, ctx, action)
		some, all = more, all && whole
	}
	return some, all
}

// A Data is Rights made ready for AWS IoT's data plane, for one connection.
type Data struct{ own, narrow *authz.Evaluator }

// Data makes r ready for the data plane.
func (r *Rights) Data(known authz.Context) *Data {
	ctx := r.context(known)
	d := &Data{own: authz.Compile(r.docs, *ctx)}
	if r.narrow != nil {
		d.narrow = authz.Compile(r.narrow, *ctx)
	}
	return d
}

// Allows says whether an action of package authz is allowed on a resource, which is
// the part of an ARN that names it. It allocates nothing.
func (d *Data) Allows(action, resource string) bool {
	return d.own.Allows(action, resource) && (d.narrow == nil || d.narrow.Allows(action, resource))
}

// errSignIn is a user without a password, a wrong one, or no user: which, is not
// told.
var errSignIn = errors.New("people: the user or the password is wrong")
