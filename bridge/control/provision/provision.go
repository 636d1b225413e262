// Package provision makes a device a member of the fleet: it evaluates AWS IoT's
// provisioning templates (Template) and makes of them a thing, its certificate
// and its policies, all in one update of the registry or nothing (Service). It
// is asked by RegisterThing, by a CA whose certificates provision themselves
// (JITP), and by devices with a claim certificate over MQTT.
//
// A device with a claim asks first for a certificate and gets it with a token
// that proves that it is the one who asked; then it asks to be provisioned with
// both. The same request with the same token is answered the same for a day and
// changes nothing, so a device that lost an answer asks again. A certificate
// whose device does not come back is deleted after an hour.
//
// Its messages carry private keys and tokens: they are for the asking client
// alone, and belong into no log.
package provision

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/webhook"
	"github.com/tidemill/tidemill/bridge/quota"
)

// Errors beside those of the registry, of pki and ErrTemplate, ErrResource.
var (
	errDenied = errors.New("provisioning: denied")      // by the hook
	errToken  = errors.New("provisioning: bad token")   // unknown, expired or used for something else
	errHook   = errors.New("provisioning: hook failed") // it could not be asked; ask again later
	errFormat = errors.New("provisioning: bad message") // of MQTT
	errBusy   = errors.New("provisioning: too many certificates wait for their devices")

	// A device is provisioned with its own certificate and no other.
	errOtherCertificate = fmt.Errorf("%w: the certificate is not {\"Ref\": \"AWS::IoT::Certificate::Id\"}", ErrTemplate)
)

// Options of a Service.
type Options struct {
	Registry registry.Store
	Issuer   *pki.PKI                     // makes device certificates
	ARN      func(resource string) string // of what is called kind/name
	Hooks    *Hooks                       // nil: none, so that templates with one provision nothing
	Log      *slog.Logger
	// Refused is told of requests of devices that were refused, by no fault of the
	// bridge or of a hook, with the error code of the answer; nil: nobody.
	Refused func(q *Request, code string, err error)
	// CreateRate is how many certificates a second one claim may ask for; 0:
	// defaultCreateRate.
	CreateRate int
}

// defaultCreateRate is more than AWS IoT Core lets an account have (10 a second),
// and a tenth of what a bridge can do.
const defaultCreateRate = 50

// A Service provisions devices. Its methods may be called from several
// goroutines.
type Service struct {
	registry registry.Store
	issuer   *pki.PKI
	o        Options
	log      *slog.Logger
	creates  *quota.Each // by certificate

	mu    sync.Mutex // guards stats
	stats map[Outcome]Count
}

// An Outcome is what became of a request: Code is OK or the error code that it
// was answered with. Operation is create, create-from-csr, provision or retire,
// or first-connection.
type Outcome struct{ Operation, Code string }

// A Count is how often there was an outcome, and how long that took in all.
type Count struct {
	Requests uint64
	Time     time.Duration
}

// Stats is what became of the requests of devices so far.
func (s *Service) Stats() map[Outcome]Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.stats)
}

func (s *Service) count(operation string, began time.Time, err error) {
	o := Outcome{operation, "OK"}
	if err != nil {
		o.Code = refuse(err).Code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.stats[o]
	s.stats[o] = Count{c.Requests + 1, c.Time + time.Since(began)}
}

// New returns a Service. It starts nothing.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Refused == nil {
		o.Refused = func(*Request, string, error) {}
	}
	if o.Hooks == nil {
		o.Hooks = NewHooks(nil, webhook.None{}, nil)
	}
	if o.CreateRate == 0 {
		o.CreateRate = defaultCreateRate
	}
	return &Service{registry: o.Registry, issuer: o.Issuer, o: o, log: o.Log, creates: quota.NewEach(o.CreateRate, 0),
		stats: map[Outcome]Count{}}
}

// RegisterThing makes what a template's body has with the parameters given: a
// device, or a thing alone.
func (s *Service) RegisterThing(ctx context.Context, body []byte, parameters map[string]string) (*Applied, error) {
	t, err := parse(body)
	if err == nil {
		err = t.checkActions()
	}
	if err != nil {
		return nil, err
	}
	if err := t.undeclared(parameters); err != nil {
		return nil, err
	}
	plan, err := t.plan(parameters, nil)
	if err != nil {
		return nil, err
	}
	var made *Applied
	err = inRegistry.Update(ctx, s.registry, func(tx records) (err error) {
		if made, err = s.apply(tx, plan); err == nil {
			audit.Of(ctx).Name(made.target())
		}
		return err
	})
	return made, err
}

// Owned is a new certificate with the token of who asked for it.
type Owned struct {
	ID    string
	PEM   string
	Key   string // PEM; "" if the device keeps its own
	Token string
}

// CreateCertificate makes a certificate, of the PEM signing request if one is
// given, that waits to be provisioned; by is the certificate of who asks.
func (s *Service) CreateCertificate(ctx context.Context, by string, request []byte) (*Owned, error) {
	var made *pki.Issued
	var err error
	if len(request) > 0 {
		made, err = s.issuer.IssueFromCSR(request, "")
	} else {
		made, err = s.issuer.Issue("Tidemill device")
	}
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	out := &Owned{ID: made.ID, PEM: string(made.CertPEM), Key: string(made.KeyPEM),
		Token: base64.RawURLEncoding.EncodeToString(secret)}
	return out, inRegistry.Update(ctx, s.registry, func(tx records) error {
		if _, err := tx.RegisterPending(made.CertPEM); err != nil {
			return err
		}
		_, err := tx.AddToken(hashOf(out.Token), registry.Token{Certificate: made.ID, By: by})
		if errors.Is(err, registry.ErrLimit) {
			return fmt.Errorf("%w: %w", errBusy, err)
		}
		return err
	})
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Provisioned is what a device is told.
type Provisioned struct {
	DeviceConfiguration map[string]any `json:"deviceConfiguration"`
	Thing               string         `json:"thingName"`
}

// A Claim asks to be provisioned.
type Claim struct {
	Template   string
	Token      string
	Parameters map[string]string
	ClientID   string
	Principal  string // id of the claim certificate
}

// Hooked says whether there is a hook of this ARN: of the configuration, or a function.
func (s *Service) Hooked(target string) bool { return s.o.Hooks.service(target) != nil }

// Provision makes what the template of a claim has. Asked again, with the same
// token, template and parameters, it answers the same, whatever became of the
// template meanwhile.
func (s *Service) Provision(ctx context.Context, q *Claim) (*Provisioned, error) {
	if q.Token == "" {
		return nil, fmt.Errorf("%w: certificateOwnershipToken is empty", errToken)
	}
	hash, asked := hashOf(q.Token), askedOf(q)
	var token registry.Token
	var tp registry.Template
	var body, text []byte
	err := inRegistry.View(s.registry, func(tx records) (err error) {
		if token, err = tx.Token(hash); err != nil || token.Outcome != nil {
			return tokenError(err)
		}
		if tp, err = tx.Template(q.Template); err != nil {
			return err
		}
		if body, err = tx.TemplateBody(q.Template, 0); err != nil {
			return err
		}
		text, err = tx.CertificatePEM(token.Certificate)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case token.Outcome != nil:
		return s.again(&token, asked)
	case !tp.Enabled || tp.Type != registry.FleetProvisioning:
		return nil, fmt.Errorf("%w: template %s is not enabled for claims", errDenied, q.Template)
	}
	plan, err := s.planOf(ctx, q, &tp, body, token.Certificate, text)
	if err != nil {
		return nil, err
	}
	out := &Provisioned{DeviceConfiguration: plan.DeviceConfiguration}
	if out.DeviceConfiguration == nil {
		out.DeviceConfiguration = map[string]any{}
	}
	err = inRegistry.Update(ctx, s.registry, func(tx records) (err error) {
		if token, err = tx.Token(hash); err != nil || token.Outcome != nil {
			return tokenError(err) // without one: the same request came twice at once
		}
		made, err := s.apply(tx, plan)
		if err != nil {
			return err
		}
		out.Thing = made.Thing
		audit.Of(ctx).Name(made.target())
		outcome, err := json.Marshal(out)
		if err != nil {
			return err
		}
		return tx.EndToken(hash, asked, outcome)
	})
	switch {
	case err != nil:
		return nil, err
	case token.Outcome != nil:
		return s.again(&token, asked)
	}
	s.log.Info("a device was provisioned", "thing", out.Thing, "certificate", token.Certificate, "template", q.Template,
		"client", q.ClientID)
	return out, nil
}

// tokenError is errToken for a token that is not there.
func tokenError(err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("%w: it is unknown, or older than %v", errToken, registry.TokenLife)
	}
	return err
}

// planOf asks a template's hook and fills in the parameters.
func (s *Service) planOf(ctx context.Context, q *Claim, tp *registry.Template, body []byte, id string,
	text []byte) (*Plan, error) {
	t, err := parseDeviceTemplate(body)
	if err != nil {
		return nil, err
	}
	for name := range q.Parameters {
		if strings.HasPrefix(name, "AWS::") {
			return nil, fmt.Errorf("%w: parameter %.100q is not the device's to give", ErrTemplate, name)
		}
	}
	own := map[string]string{}
	if tp.Hook != nil {
		overrides, err := s.ask(ctx, q, tp.Hook.Target, s.o.ARN("provisioningtemplate/"+tp.Name), id, string(text))
		if err != nil {
			return nil, err
		}
		maps.Copy(own, overrides)
	}
	own[certificateParameter+"Id"] = id
	plan, err := t.plan(own, q.Parameters)
	if err == nil && plan.Certificate.ID != id {
		err = errOtherCertificate
	}
	return plan, err
}

// again answers as the first time.
func (s *Service) again(token *registry.Token, asked string) (*Provisioned, error) {
	if token.Asked != asked {
		return nil, fmt.Errorf("%w: it was used for another request", errToken)
	}
	out := &Provisioned{}
	return out, json.Unmarshal(token.Outcome, out)
}

// askedOf is a hash of what a claim asks for.
func askedOf(q *Claim) string {
	text, _ := json.Marshal([]any{q.Template, q.Parameters}) // maps are written in order; cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Retire makes a certificate INACTIVE for a device that is connected with
// another one, by, that is ACTIVE and of the same thing: the last step of a
// rotation. Again is no error. A certificate that is of other things too is
// theirs to keep.
func (s *Service) Retire(ctx context.Context, by, id string) error {
	if by == id {
		return fmt.Errorf("%w: a certificate does not retire itself", errDenied)
	}
	return inRegistry.Update(ctx, s.registry, func(tx records) error {
		mine, err := tx.Certificate(by)
		if err != nil || mine.Status != registry.Active {
			return fmt.Errorf("%w: certificate %.64q is not active", errDenied, by)
		}
		things, own := tx.CertificateThings(id), tx.CertificateThings(by)
		if len(things) == 0 || slices.ContainsFunc(things, func(th string) bool { return !slices.Contains(own, th) }) {
			return fmt.Errorf("%w: certificate %.64q is not of this device", errDenied, id)
		}
		c, err := tx.Certificate(id)
		if err != nil || c.Status == registry.Revoked {
			return err // as good
		}
		return tx.SetCertificateStatus(id, registry.Inactive)
	})
}

// byItself is the context of a change that nobody asked for.
func byItself(action string) context.Context {
	return audit.With(context.Background(), &audit.Change{Quiet: true,
		Record: audit.Record{Source: audit.SourceBridge, Action: action}})
}

// Sweep forgets what has expired.
func (s *Service) Sweep() error {
	for {
		if n, _, err := s.sweep(); err != nil || n < sweepAtOnce {
			return err
		}
	}
}

// sweepAtOnce is how many tokens one update forgets.
const sweepAtOnce = 1000

// Run forgets what has expired, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for {
		wait := time.Minute
		if n, next, err := s.sweep(); err != nil {
			s.log.Error("expired certificates of provisioning cannot be deleted", "err", err)
		} else if n == sweepAtOnce {
			wait = 0
		} else if !next.IsZero() {
			wait = min(wait, max(time.Second, time.Until(next)))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// sweep writes only if something has expired.
func (s *Service) sweep() (n int, next time.Time, err error) {
	var due bool
	err = inRegistry.View(s.registry, func(tx records) error {
		due, next = tx.TokensDue()
		return nil
	})
	if err != nil || !due {
		return 0, next, err
	}
	err = inRegistry.Update(byItself("DeleteExpired"), s.registry, func(tx records) (err error) {
		n, err = tx.SweepTokens(sweepAtOnce)
		return err
	})
	return n, next, err
}
