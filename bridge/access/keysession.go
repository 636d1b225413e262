package access

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A keySession has the rights of an access key: by WebSocket all that the
// gateway lets anybody have, as the key has for the APIs, or what its policies
// allow. They follow the grants, the registry and the users; the session ends with
// the key. It implements gateway.Session and KeyCaller.
type keySession struct {
	topicRights
	a       *Authorizer
	id      string // of the key
	user    string // whose it is; "" for a key of a file or of the credential provider
	known   authz.Context
	current atomic.Pointer[keyRights]
}

// keyRights are what the grants and the registry said at a revision. They do not
// change.
type keyRights struct {
	grants   *grants
	revision uint64    // of the registry
	users    uint64    // generation
	until    time.Time // that the key holds; zero: it does not end by itself
	all      bool
	policy   policy         // nil: nothing is allowed, or all
	person   *people.Rights // of the user of the key; nil for other keys
}

// A policy is what is allowed of the data plane.
type policy interface {
	Allows(action, resource string) bool
}

// Key is what an access key may do by a signed request.
func (a *Authorizer) Key(r *http.Request, id string) KeyCaller {
	return a.key(id, authz.Context{SourceIP: admission.Host(r.RemoteAddr), Insecure: r.TLS == nil})
}

// key returns the rights of a key.
func (a *Authorizer) key(id string, known authz.Context) *keySession {
	s := &keySession{a: a, id: id, known: known}
	s.topicRights = topicRights{s}
	if k := a.o.People.Key(id); k != nil {
		s.user = k.Rights.User()
	} else if a.isTemporary(id) {
		if s.known.Thing = a.thingOf(id); s.known.ClientID == "" && s.known.Thing != nil { // by HTTPS
			s.known.ClientID = s.known.Thing.Name
		}
	}
	s.known.Account, s.known.Region = a.o.Account, a.o.Region
	return s
}

func (a *Authorizer) connectKey(k keyIdentity, c *gateway.Connect) (gateway.Session, error) {
	known := connectContext(c)
	known.Insecure = k.insecure
	s := a.key(k.id, known)
	if !s.mayConnect() {
		return nil, fmt.Errorf("%w: access key %s may not connect as %q, or is not there any more",
			gateway.ErrNotAuthorized, k.id, c.ClientID)
	}
	return s, nil
}

// May implements Caller.
func (s *keySession) May(action, resource string) bool {
	j := s.rights()
	return j.all || j.policy != nil && j.policy.Allows(action, resource)
}

// MayPublish implements gateway.Session. What makes certificates and things, a key
// may ask for by MQTT if it may do so by the API, too: who may publish is not one who
// may make devices.
func (s *keySession) MayPublish(name string, retain bool) bool {
	action, resource := s.provisioning(name)
	return s.topicRights.MayPublish(name, retain) && (action == "" || s.mayDo(action, resource))
}

// provisioning is what a topic of the provisioning service asks for; "" for others.
func (s *keySession) provisioning(name string) (action, resource string) {
	if of, _ := topic.Lookup(name); of.Service != topic.Provisioning {
		return "", ""
	}
	parts := strings.Split(name, "/")
	switch { // the table of topics has no others
	case strings.HasPrefix(name, "$aws/certificates/create-from-csr/"):
		return "iot:CreateCertificateFromCsr", "*"
	case strings.HasPrefix(name, "$aws/certificates/"):
		return "iot:CreateKeysAndCertificate", "*"
	case strings.HasPrefix(name, "$aws/provisioning-templates/"):
		return "iot:RegisterThing", arn.IoT(s.a.o.Region, s.a.o.Account, "provisioningtemplate/"+parts[2])
	}
	return "iot:UpdateCertificate", arn.IoT(s.a.o.Region, s.a.o.Account, "cert/"+parts[2])
}

// mayDo says whether the key may do an operation of the control plane.
func (s *keySession) mayDo(action, resource string) bool {
	switch j := s.rights(); {
	case j.all:
		return true
	case j.person != nil:
		return j.person.Allow(action, resource, s.known)
	default:
		return j.policy != nil && j.policy.Allows(action, resource)
	}
}

// Whole implements KeyCaller.
func (s *keySession) Whole() bool { return s.rights().all }

// Person implements KeyCaller.
func (s *keySession) Person() *people.Rights { return s.rights().person }

// Signed implements wire.Signer: keys of files and of users remember their last use.
func (s *keySession) Signed(service string) { s.a.used(s.id, service) }

// rights returns the rights that hold now.
func (s *keySession) rights() *keyRights {
	j := s.current.Load()
	if j == nil || j.revision != s.a.o.Registry.Revision() || j.grants != s.a.o.Keys.now.Load() ||
		j.users != s.a.o.People.Generation() {
		j = s.read()
		s.current.Store(j)
	}
	if !j.until.IsZero() && time.Now().After(j.until) {
		return &keyRights{}
	}
	return j
}

// read compiles the policies. When one is not there, or cannot be read, nothing
// is allowed: it may be the one that denies. Nor is it by a key that is gone, or
// by a temporary one that holds no more: the will of its client may still wait.
func (s *keySession) read() *keyRights {
	j := &keyRights{revision: s.a.o.Registry.Revision(), grants: s.a.o.Keys.now.Load(),
		users: s.a.o.People.Generation()}
	if k := s.a.o.People.Key(s.id); k != nil {
		j.until, j.person, j.policy = k.Ends, k.Rights, k.Rights.Data(s.known)
		return j
	}
	granted := s.a.o.Keys.of(j.grants, s.id)
	if s.a.isTemporary(s.id) {
		k, err := s.a.temporaryKey(s.id)
		if err != nil {
			return j
		}
		j.until = k.Expires
		granted = j.grants.named[k.Role]
		granted.All = false // it never has more than a role's policies
	} else if _, there := j.grants.keys[s.id]; !there && !s.a.o.Permissive {
		return j
	}
	if j.all = granted.All; j.all {
		return j
	}
	_, function := s.a.o.Functions.key(s.id)
	parse := authz.Parse
	if function { // for all services, so what people's policies may ask
		parse = people.ParsePolicy
	}
	docs, err := s.documents(granted.Policies, parse)
	switch {
	case err == nil && function:
		j.person = people.RightsOfPolicies(s.Owner(), docs)
		j.policy = j.person.Data(s.known)
	case err == nil:
		j.policy = authz.Compile(docs, s.known)
	case errors.Is(err, registry.ErrNotFound), errors.Is(err, authz.ErrMalformed):
		s.a.o.Log.Warn("an access key is held to a policy that is not there, or not for it, so it may do nothing", "key", s.id, "err",
			err)
	default:
		s.a.o.Log.Error("registry cannot be read, an access key is refused", "key", s.id, "err", err)
	}
	return j
}

// documents reads policies of the registry.
func (s *keySession) documents(names []string, parse func([]byte) (*authz.Document, error)) (docs []*authz.Document,
	err error) {
	err = view(s.a.o.Registry, func(tx records) error {
		for _, name := range names {
			text, err := tx.PolicyDocument(name, 0)
			if err != nil {
				return err
			}
			d, err := parse(text)
			if err != nil {
				return err
			}
			docs = append(docs, d)
		}
		return nil
	})
	return docs, err
}

func (s *keySession) mayConnect() bool {
	if !s.May(authz.Connect, s.known.ClientID) {
		return false
	}
	return s.Holds()
}

// Principal is the key's user, or its id where it has none.
func (s *keySession) Principal() string {
	if s.user != "" {
		return "user " + s.user
	}
	return s.id
}

// Holds implements wire.Holder: it says whether the key may sign.
func (s *keySession) Holds() bool {
	if s.a.o.Permissive {
		return true
	}
	_, _, ok := s.a.Secret(s.id)
	return ok
}

// KeyID is the access key.
func (s *keySession) KeyID() string { return s.id }

// Owner is the key's, or the user's or certificate's that it was given to: the next
// one's sessions are those of this one. It implements Caller.
func (s *keySession) Owner() string {
	if s.user != "" {
		return "user/" + s.user
	}
	if s.a.isTemporary(s.id) {
		if k, err := s.a.temporaryKey(s.id); err == nil {
			return k.Certificate
		}
	}
	return "key/" + s.id
}

// Thing is empty: a key is no thing's.
func (s *keySession) Thing() string { return "" }
