// Package registry is the bridge's memory of who may connect: things, their
// types and groups, device certificates and their CAs, policies, and which is
// attached to which. It also keeps what was made through the API of topic rules,
// provisioning templates, authorizers and role aliases, users and their access
// keys, and the changes that messages have to be published of (Change).
//
// A Registry is tables of an engine (package table; bolt is the one in a file). Its
// rules stand here alone. Reads and writes happen in a Tx, so that what belongs
// together, such as a thing with its certificate and its policy, is there as a
// whole or not at all:
//
//	err := reg.Update(func(tx *registry.Tx) error {
//		if err := tx.CreateThing(registry.Thing{Name: "pump-1"}); err != nil {
//			return err
//		}
//		return tx.AttachThing("pump-1", certificateID)
//	})
//
// Identity answers the question of a CONNECT in one read: the certificate's
// status, the policies in effect, and the thing. Watch tells of every change,
// so that it reaches the sessions that are open.
//
// Caveats:
//   - An Update is synced to disk before it returns, which takes milliseconds;
//     put many changes into one. Update and View must not be nested.
//   - Lists walk in name order; one with a filter reads every entry it skips.
package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/shadow/format"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// Errors that callers branch on; match with errors.Is.
var (
	ErrNotFound = errors.New("registry: not found")
	ErrExists   = errors.New("registry: exists with other content")
	// another version than expected, or not in this state
	ErrConflict = errors.New("registry: conflict")
	ErrInUse    = fmt.Errorf("%w: still attached", ErrConflict) // detach first
	ErrLimit    = fmt.Errorf("%w: limit reached", ErrConflict)  // AWS's number of versions, policies, groups
	ErrInvalid  = errors.New("registry: invalid")               // a name or value that cannot be
	// the file was written by other software, or damaged
	ErrCorrupt = errors.New("registry: stored entry cannot be decoded")
)

// Limits of AWS IoT Core (service quotas).
const (
	MaxAttributes          = 50 // per thing
	MaxAttributeValue      = 800
	MaxPolicyVersions      = 5
	MaxCertificatePolicies = 10 // policies on one certificate
	MaxGroupPolicies       = 2
	MaxThingGroups         = 10 // groups a thing is directly in
	MaxGroupDepth          = 7
	MaxPage                = 250 // entries of one page of a list
)

var (
	thingName     = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	policyName    = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	attributeName = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`)
	attributeText = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#=\[\]-]*$`)
)

// A Registry is the model over an engine. Its methods may be called from several
// goroutines.
type Registry struct {
	engine   table.Engine
	now      func() time.Time
	expiry   func() time.Time // nil: now
	revision atomic.Uint64    // id of the last transaction committed; written under recent.mu
	recent   recent
	taken    atomic.Uint64 // the last audit record that the audit log has

	// commitMu is held over a commit and its events, so that watchers hear them
	// in order. It is taken before watchMu and docMu.
	commitMu sync.Mutex

	watchMu  sync.Mutex // guards watchers, nextID
	watchers map[int]func(Event)
	nextID   int

	docMu sync.Mutex // guards docs
	docs  map[uint64]*authz.Document
}

// Tables; FORMAT.md says what is in them.
var (
	bThings        = []byte("things")
	bCertificates  = []byte("certificates")
	bPEM           = []byte("certificate-pem")
	bPolicies      = []byte("policies")
	bDocuments     = []byte("policy-documents")
	bGroups        = []byte("groups")
	bCertPolicies  = []byte("certificate-policies")
	bPolicyTargets = []byte("policy-targets")
	bGroupPolicies = []byte("group-policies")
	bCertThings    = []byte("certificate-things")
	bThingCerts    = []byte("thing-certificates")
	bGroupThings   = []byte("group-things")
	bGroupChildren = []byte("group-children")
	bRules         = []byte("rules")
	bRuleDocuments = []byte("rule-documents")
	bMeta          = []byte("meta")
	bTypes         = []byte("thing-types")
	bTypeThings    = []byte("type-things")
	bBillingGroups = []byte("billing-groups")
	bBillingThings = []byte("billing-things")
	bTags          = []byte("tags")
	bOutbox        = []byte("outbox")
	bRecords       = []byte("audit-records")

	bSerials        = []byte("certificate-serials")
	bCAs            = []byte("cas")
	bCAPEM          = []byte("ca-pem")
	bCANames        = []byte("ca-names")
	bCACertificates = []byte("ca-certificates")
	bCRLs           = []byte("crls")
	bCRLSerials     = []byte("crl-serials")

	bTemplates      = []byte("templates")
	bTemplateBodies = []byte("template-bodies")
	bTokens         = []byte("certificate-tokens")
	bAuthorizers    = []byte("authorizers")
	bRoleAliases    = []byte("role-aliases")
	bKeys           = []byte("temporary-keys")
	bKeyEnds        = []byte("temporary-key-ends")
	bDeclarations   = []byte("declarations")
	bUsers          = []byte("users")
	bAccessKeys     = []byte("access-keys")
	bUserKeys       = []byte("user-access-keys")
	bKeyUses        = []byte("access-key-uses")

	keyRegistrationCode = []byte("registration-code")
	keyEvents           = []byte("event-configurations")
	keyIndexing         = []byte("indexing-configuration")

	keyDefaultAuthorizer = []byte("default-authorizer")
	keyFormat            = []byte("format")
	allBuckets           = [][]byte{bThings, bCertificates, bPEM, bPolicies, bDocuments, bGroups, bCertPolicies,
		bPolicyTargets, bGroupPolicies, bCertThings, bThingCerts, bGroupThings, bGroupChildren,
		bRules, bRuleDocuments, bMeta, bSerials, bCAs, bCAPEM, bCANames, bCACertificates, bCRLs, bCRLSerials,
		bTypes, bTypeThings, bBillingGroups, bBillingThings, bTags, bOutbox, bTemplates, bTemplateBodies, bTokens,
		bAuthorizers, bRoleAliases, bKeys, bKeyEnds, bDeclarations, bUsers, bAccessKeys, bUserKeys, bKeyUses,
		bRecords}
)

// FormatNumber is that of FORMAT.md.
const FormatNumber = 2

// New returns the registry that an engine holds, and makes what is missing there.
// It takes the engine over, and closes it if there is an error: format.ErrNewer if
// a newer version wrote it.
func New(e table.Engine, expiry func() time.Time) (*Registry, error) {
	if err := prepare(e); err != nil {
		return nil, errors.Join(fmt.Errorf("registry %s: %w", e.Name(), err), e.Close())
	}
	r := &Registry{engine: e, expiry: expiry, watchers: map[int]func(Event){}, docs: map[uint64]*authz.Document{},
		now: time.Now}
	if err := e.View(func(tx table.Tx) error {
		r.revision.Store(tx.ID())
		r.recent.after = tx.ID()
		return nil
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("registry %s: %w", e.Name(), err), e.Close())
	}
	return r, nil
}

// deletes is the time by which what has expired is deleted.
func (r *Registry) deletes() time.Time {
	if r.expiry == nil {
		return r.now()
	}
	return r.expiry()
}

// prepare makes the buckets, writing only if one is missing.
func prepare(e table.Engine) error {
	complete := false
	err := e.View(func(tx table.Tx) error {
		has, err := formatOf(tx)
		if err == nil {
			err = format.Check(has, FormatNumber)
		}
		if err != nil || has < FormatNumber {
			return err
		}
		for _, b := range allBuckets {
			if !tx.Has(b) {
				return nil
			}
		}
		complete = true
		return nil
	})
	if err != nil || complete {
		return err
	}
	return e.Update(func(tx table.Tx) error {
		indexed, typed := tx.Has(bSerials), tx.Has(bTypes)
		for _, b := range allBuckets {
			if err := tx.Create(b); err != nil {
				return err
			}
		}
		if !indexed {
			if err := indexSerials(tx); err != nil {
				return err
			}
		}
		if !typed {
			if err := makeTypes(tx); err != nil {
				return err
			}
		}
		return tx.Table(bMeta).Put(keyFormat, format.Text(FormatNumber))
	})
}

// Format returns the number of the registry that an engine holds. New brings it to
// FormatNumber. One of before there was a number is of format 1; one without tables is
// new, and has nothing to bring to FormatNumber.
func Format(e table.Engine) (has uint64, err error) {
	err = e.View(func(tx table.Tx) error {
		if has, err = formatOf(tx); has > 0 || err != nil {
			return err
		}
		has = FormatNumber
		if slices.ContainsFunc(allBuckets, tx.Has) {
			has = 1
		}
		return nil
	})
	return has, err
}

// formatOf reads the file's number, 0 of one that has none.
func formatOf(tx table.Tx) (uint64, error) {
	if !tx.Has(bMeta) {
		return 0, nil
	}
	n, err := format.Parse(tx.Table(bMeta).Get(keyFormat))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return n, nil
}

// Close waits for transactions under way and closes the engine.
func (r *Registry) Close() error { return r.engine.Close() }

// A Tx is one transaction. It is valid only within the function it was given
// to, and for one goroutine.
type Tx struct {
	reg     *Registry
	tx      table.Tx
	events  []Event
	wanted  map[EventType]bool // messages; nil: not read yet
	journal *journal           // nil: changes are not noted
}

// identify makes the UUID of what had a name since a time: something else of
// that name has another.
func identify(name string, created time.Time) string {
	sum := sha256.Sum256([]byte(name + created.UTC().String()))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// A Viewer reads a registry: all that some users need of it.
type Viewer interface {
	View(f func(*Tx) error) error
}

// A Store reads and changes a registry: all that most users need of it.
type Store interface {
	Viewer
	Update(f func(*Tx) error) error
}

// View runs f on the registry as it stands; writes fail.
func (r *Registry) View(f func(*Tx) error) error {
	return r.engine.View(func(tx table.Tx) error { return f(&Tx{reg: r, tx: tx}) })
}

// Thing is Tx.Thing in a view of its own.
func (r *Registry) Thing(name string) (th Thing, err error) {
	err = r.View(func(tx *Tx) (err error) { th, err = tx.Thing(name); return err })
	return th, err
}

// HasThing says whether there is a thing of that name.
func (r *Registry) HasThing(name string) (bool, error) {
	_, err := r.Thing(name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Update runs f and makes its changes durable, all of them if f returns nil,
// none otherwise. Then, before it returns, watchers hear of them. Updates run
// one after the other.
func (r *Registry) Update(f func(*Tx) error) error {
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	var id uint64
	t := &Tx{reg: r}
	err := r.engine.Update(func(tx table.Tx) error {
		t.tx, id = tx, tx.ID()
		return f(t)
	})
	if err != nil {
		return err
	}
	r.recent.mu.Lock()
	r.recent.add(id, t.events)
	r.revision.Store(id)
	r.recent.mu.Unlock()
	r.watchMu.Lock()
	watchers := make([]func(Event), 0, len(r.watchers))
	for id := range r.nextID {
		if w := r.watchers[id]; w != nil {
			watchers = append(watchers, w)
		}
	}
	r.watchMu.Unlock()
	for _, e := range t.events {
		for _, w := range watchers {
			w(e)
		}
	}
	return nil
}

// A Kind says what an Event is about.
type Kind string

// The kinds of events.
const (
	ThingChanged       Kind = "thing"       // made, changed, deleted, or in other groups
	CertificateChanged Kind = "certificate" // made, its status, deleted, or another policy or thing attached
	PolicyChanged      Kind = "policy"      // another document is in effect, or none
	GroupChanged       Kind = "group"       // made, changed, deleted, or another policy attached
	AuthorizerChanged  Kind = "authorizer"  // made, changed, deleted, or another is the default
	UserChanged        Kind = "user"        // made, changed, deleted, or one of the keys
	ChangeStored       Kind = "change"      // a Change was stored
	RecordKept         Kind = "record"      // there is something among Records
	IndexingChanged    Kind = "indexing"    // of the fleet index
)

// An Event says that the entry Name of a Kind is no longer what it was.
type Event struct {
	Kind Kind
	Name string // of the thing, policy or group; the id of the certificate
}

// Watch has f called for every change from now on, after it is durable and in
// order, until stop is called. f runs within Update, holding up other updates:
// it may read the registry, and must neither update it nor block.
//
// A connection that is being set up meanwhile may not be where f finds it: ask
// Unchanged about its Identity, which misses nothing.
func (r *Registry) Watch(f func(Event)) (stop func()) {
	r.watchMu.Lock()
	defer r.watchMu.Unlock()
	id := r.nextID
	r.nextID++
	r.watchers[id] = f
	return func() {
		r.watchMu.Lock()
		defer r.watchMu.Unlock()
		delete(r.watchers, id)
	}
}

// Revision returns a number that grows with every Update, from before its
// watchers hear of it. It reads one word of memory, so it may be asked for
// every message.
func (r *Registry) Revision() uint64 { return r.revision.Load() }

// changed notes an event, once per transaction.
func (t *Tx) changed(k Kind, name string) {
	e := Event{k, name}
	for _, old := range t.events[max(0, len(t.events)-16):] { // 16: enough to merge one operation's
		if old == e {
			return
		}
	}
	t.events = append(t.events, e)
}

// get decodes the entry key of a bucket into v.
func (t *Tx) get(bucket []byte, kind, key string, v any) error {
	raw := t.tx.Table(bucket).Get([]byte(key))
	if raw == nil {
		return fmt.Errorf("%s %q: %w", kind, key, ErrNotFound)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s %q: %w: %w", kind, key, ErrCorrupt, err)
	}
	return nil
}

// text returns a copy of the entry key of a bucket that has no JSON.
func (t *Tx) text(bucket []byte, kind, key string) ([]byte, error) {
	raw := t.tx.Table(bucket).Get([]byte(key))
	if raw == nil {
		return nil, fmt.Errorf("%s %q: %w", kind, key, ErrNotFound)
	}
	return bytes.Clone(raw), nil
}

func (t *Tx) has(bucket []byte, key string) bool { return t.tx.Table(bucket).Get([]byte(key)) != nil }

func (t *Tx) put(bucket []byte, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return t.tx.Table(bucket).Put([]byte(key), raw)
}
