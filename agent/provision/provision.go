// Package provision gives a device its identity by AWS IoT's fleet provisioning
// by claim, and a new certificate when the old one is to go.
//
// Provision makes a key that never leaves the device, asks for a certificate by
// a claim certificate that many devices share, asks for a thing by a template,
// tries the new identity, and only then takes it up. Rotate does the same with
// the identity that there is in the place of the claim, and then has the old
// certificate retired.
//
// Every step is on the disk before the next begins (FORMAT.md), and can be done
// again: a device whose power is cut at any time goes on where it was, and ends
// provisioned once, with one active certificate. Where an answer was lost the
// bridge gives it again; a certificate that was made and not heard of is deleted
// by the bridge after an hour. An identity that the bridge refuses for a day is
// given up for another.
//
// Caveats:
//   - One process at a time may work on a data directory; Provision and Rotate
//     hold a lock. The running agent only reads, and asks Busy before it connects:
//     Rotate connects under the same client id, and one would end the other's
//     connection.
//   - AWS IoT Core itself does not know the request to retire a certificate:
//     switch Options.Retire off, and deactivate it there.
package provision

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/hal/form"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// Options say where and as what a device is provisioned.
type Options struct {
	Dir        string // data directory; made if it is not there
	Endpoint   string // host:port
	ServerName string // in the broker's certificate; default: the endpoint's host
	Roots      func() (*x509.CertPool, error)
	// Claim is the claim certificate with its key. Rotate does not ask for it.
	Claim      func() (tls.Certificate, error)
	ClientID   string // of the claim's connections, and the common name that is asked for
	Template   string
	Parameters map[string]string
	// ThingClientID is what the device connects as; default: the thing's name.
	ThingClientID string
	Retire        bool // have old certificates retired
	// of a connection, and of an answer; default 30 s
	Timeout time.Duration
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // default: the machine's
	// Time is by what certificates are judged; nil: the system's clock. Retry is told
	// why a TLS handshake failed, and says whether another one, at once, may succeed;
	// nil: none may.
	Time  func() time.Time
	Retry func(error) bool
	Log   *slog.Logger
	// Step is called when something has become durable or an answer has come;
	// tests end the process there. nil: nothing.
	Step func(name string)
}

// ErrNotProvisioned says that there is no identity yet.
var ErrNotProvisioned = errors.New("this device is not provisioned yet: run tidemill-agent provision")

// An Identity is what a device was provisioned as.
type Identity struct {
	Thing         string          `json:"thingName"`
	Certificate   string          `json:"certificateId"`
	Template      string          `json:"template"`
	Configuration json.RawMessage `json:"deviceConfiguration"` // an object
	Created       time.Time       `json:"created"`
	// ids of certificates before this one that are not retired yet
	Retire []string `json:"retire,omitempty"`
}

// Paths are the files of the identity in a data directory, whether they are
// there or not.
func Paths(dir string) (certificate, key string) {
	return filepath.Join(dir, link, certFile), filepath.Join(dir, link, keyFile)
}

// Current returns the identity in a data directory, or ErrNotProvisioned.
func Current(dir string) (*Identity, error) {
	id := &Identity{}
	err := readJSON(filepath.Join(dir, link, identityFile), id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotProvisioned
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return id, nil
}

// retireFor is how long Provision waits for certificates to be retired with an
// identity in place: the agent starts after it, and reads no sensor before. What
// is left is for Rotate.
const retireFor = 5 * time.Second

// Provision makes one try to provision the device, from where the last one came
// to. With an identity in place it returns that, offline too; it takes at most
// five seconds to end what a power cut left to be retired. made says that the
// identity is new.
func Provision(ctx context.Context, o Options) (id *Identity, made bool, err error) {
	if id, err := Current(o.Dir); err == nil && len(id.Retire) == 0 && !left(o.Dir, provisioning) {
		return id, false, nil
	}
	w, err := open(o, provisioning)
	if id, no := Current(o.Dir); no == nil && errors.Is(err, errBusy) {
		return id, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer w.close()
	if id, err = Current(o.Dir); err == nil {
		if err := errors.Join(w.discard(), w.tidy()); err != nil { // its files are the identity's now
			return nil, false, err
		}
		ctx, cancel := context.WithTimeout(ctx, retireFor)
		defer cancel()
		if err := w.retire(ctx, id); err != nil {
			w.o.Log.Warn("old certificates are not retired yet", "err", err)
		}
		return id, false, nil
	}
	if !errors.Is(err, ErrNotProvisioned) {
		return nil, false, err
	}
	w.asker, w.clientID = o.Claim, o.ClientID
	if id, err = w.run(ctx, ""); err != nil {
		return nil, false, err
	}
	if err := w.retire(ctx, id); err != nil { // of attempts that were given up
		w.o.Log.Warn("certificates of earlier attempts are not retired yet", "err", err)
	}
	return id, true, nil
}

// Rotate makes one try to give the device a new certificate, from where the last
// one came to, and to have those before it retired. A certificate younger than
// age is left as it is, unless less than a third of its time is left; made says
// whether there is a new one, which may be so with an error too: then it is in
// use, and the one before is not retired.
func Rotate(ctx context.Context, o Options, age time.Duration) (id *Identity, made bool, err error) {
	w, err := open(o, rotation)
	if err != nil {
		return nil, false, err
	}
	defer w.close()
	old, err := Current(o.Dir)
	if err != nil {
		return nil, false, err
	}
	if err := w.tidy(); err != nil {
		return old, false, err
	}
	// One that is not retired yet stops the next rotation, so that tries that
	// fail here never pile up certificates.
	if err := w.retire(ctx, old); err != nil {
		return old, false, err
	}
	if p, err := w.begun(); err != nil {
		return old, false, err
	} else if p.ID == old.Certificate { // it was taken up
		if err := w.discard(); err != nil {
			return old, false, err
		}
	} else if p.ID != "" {
		age = 0
	}
	// By a clock that was far ahead a certificate is not young for ever.
	if time.Since(old.Created).Abs() < age && !nearEnd(w.own, time.Now()) {
		return old, false, nil
	}
	w.asker, w.clientID, w.old = w.own, w.thingClient(old.Thing), old
	if id, err = w.run(ctx, old.Thing); err != nil {
		return old, false, err
	}
	return id, true, w.retire(ctx, id)
}

// nearEnd says whether less than a third of a certificate's time is left: an age that suits
// certificates of years would let one of days end. One that cannot be read is for the try.
func nearEnd(read func() (tls.Certificate, error), now time.Time) bool {
	pair, err := read()
	if err != nil || pair.Leaf == nil {
		return false
	}
	return pair.Leaf.NotAfter.Sub(now) < pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)/3
}

// A work is one try.
type work struct {
	o        Options
	dir      string // of what is not taken up yet
	asker    func() (tls.Certificate, error)
	clientID string // of asker's connections
	old      *Identity
	lock     *os.File
}

func open(o Options, name string) (*work, error) {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	w := &work{o: o, dir: filepath.Join(o.Dir, name)}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	w.lock, err = lock(filepath.Join(o.Dir, lockFile))
	return w, err
}

func (w *work) close() { _ = w.lock.Close() } // which unlocks it

// begun returns the certificate that an earlier try came to, empty for none.
func (w *work) begun() (*pending, error) {
	p := &pending{}
	err := readJSON(filepath.Join(w.dir, pendingFile), p)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return p, err
}

// A pending is a certificate that the device has and is not taken up.
type pending struct {
	ID        string   `json:"certificateId"`
	PEM       string   `json:"certificatePem"`
	Token     string   `json:"certificateOwnershipToken"`
	Abandoned []string `json:"abandoned,omitempty"` // certificates of tries that were given up
}

// maxAbandoned is how many certificates of tries that were given up are
// remembered, the newest: a device that waits for weeks until somebody lets it in
// gives one up in each hour. Retiring them takes two filters each, of the 50 that
// AWS IoT Core lets a connection have.
const maxAbandoned = 16

// An outcome is what the device was provisioned as.
type outcome struct {
	Thing         string          `json:"thingName"`
	Configuration json.RawMessage `json:"deviceConfiguration"`
	Template      string          `json:"template"`
	At            time.Time       `json:"at"` // when it was answered
}

// patience is for how long an identity that the bridge refuses is tried: as long
// as the bridge repeats the outcome that it came from.
const patience = 24 * time.Hour

// run does the steps that are left. thing is what must come of it, "" for
// anything.
func (w *work) run(ctx context.Context, thing string) (*Identity, error) {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, err
	}
	if err := errors.Join(durable.SyncFolder(w.o.Dir),
		durable.SyncFolder(filepath.Dir(filepath.Clean(w.o.Dir)))); err != nil {
		return nil, err
	}
	key, err := w.key()
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	x := &exchange{w: w}
	defer x.close()
	p, err := w.certificate(ctx, x, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	out, err := w.outcome(ctx, x, p)
	var no *rejected
	if errors.As(err, &no) && no.Code == invalidToken {
		// It has expired. What came of it, if anything, is retired at the end.
		w.o.Log.Warn("the certificate waited too long and is given up for a new one", "certificate", p.ID)
		if err := w.forget(p); err != nil {
			return nil, err
		}
		if p, err = w.certificate(ctx, x, key); err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		out, err = w.outcome(ctx, x, p)
	}
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", w.o.Template, err)
	}
	if thing != "" && out.Thing != thing {
		return nil, w.unusable(p, out, fmt.Errorf("template %s: made the thing %q of this device, which is %q",
			out.Template, out.Thing, thing))
	}
	x.close()
	if err := w.try(ctx, p, key, out.Thing); err != nil {
		err = fmt.Errorf("the new identity %s of thing %s cannot connect, and is not taken up: %w", p.ID, out.Thing,
			err)
		if errors.Is(err, errRefused) {
			err = w.unusable(p, out, err)
		}
		return nil, err
	}
	w.o.Step("tried")
	id := &Identity{Thing: out.Thing, Certificate: p.ID, Template: out.Template, Configuration: out.Configuration,
		Created: time.Now().UTC(), Retire: p.Abandoned}
	if w.old != nil {
		id.Retire = append(id.Retire, w.old.Certificate)
	}
	if !w.o.Retire {
		id.Retire = nil
	}
	if err := w.commit(id, p, key); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return id, nil
}

// key returns the key of the identity to be, in PEM, and makes it if there is
// none.
func (w *work) key() ([]byte, error) {
	path := filepath.Join(w.dir, keyFile)
	text, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if text, err = newKey(); err != nil {
		return nil, err
	}
	if err := durable.Write(path, text, 0o600); err != nil {
		return nil, err
	}
	w.o.Step("key")
	return text, nil
}

// certificate returns the certificate of the identity to be, and asks for one if
// there is none.
func (w *work) certificate(ctx context.Context, x *exchange, key []byte) (*pending, error) {
	p, err := w.begun()
	if err != nil || p.ID != "" {
		return p, err
	}
	request, err := newRequest(key, w.o.ClientID)
	if err != nil {
		return nil, err
	}
	w.o.Log.Info("asking for a certificate", "endpoint", w.o.Endpoint)
	in := struct {
		Request string `json:"certificateSigningRequest"`
	}{string(request)}
	got := &pending{}
	if err := x.ask(ctx, "$aws/certificates/create-from-csr/json", in, got); err != nil {
		return nil, err
	}
	w.o.Step("certificate answered")
	// As the service's API reference has it (certificateId): it is part of paths.
	if !form.Hex.Is(got.ID, 64, 64) || got.Token == "" {
		return nil, fmt.Errorf("the answer has no token, or no id of a certificate: %.80q", got.ID)
	}
	if _, err := tls.X509KeyPair([]byte(got.PEM), key); err != nil {
		return nil, fmt.Errorf("the answer is not for this device's key: %w", err)
	}
	got.Abandoned = p.Abandoned
	if err := writeJSON(filepath.Join(w.dir, pendingFile), got); err != nil {
		return nil, err
	}
	w.o.Step("certificate")
	return got, nil
}

// forget gives a certificate up, and remembers to have it retired.
func (w *work) forget(p *pending) error {
	all := append(p.Abandoned, p.ID)
	return writeJSON(filepath.Join(w.dir, pendingFile), &pending{Abandoned: all[max(0, len(all)-maxAbandoned):]})
}

// unusable gives a certificate up if no use of it could be made for as long as
// patience, for the reason why, which it returns. Else a certificate that was
// deleted meanwhile, or that a wrong template made, would keep the device away
// for ever.
func (w *work) unusable(p *pending, out *outcome, why error) error {
	if time.Since(out.At).Abs() < patience { // a clock that was set later counts as time
		return why
	}
	w.o.Log.Warn("the certificate is of no use and is given up for a new one", "certificate", p.ID, "since", out.At)
	return errors.Join(why, w.forget(p))
}

// outcome returns what the device is provisioned as, and asks for it if that is
// not known.
func (w *work) outcome(ctx context.Context, x *exchange, p *pending) (*outcome, error) {
	path := filepath.Join(w.dir, outcomeFile+"-"+p.ID[:min(16, len(p.ID))])
	out := &outcome{}
	err := readJSON(path, out)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	w.o.Log.Info("asking to be provisioned", "template", w.o.Template, "certificate", p.ID)
	in := struct {
		Token      string            `json:"certificateOwnershipToken"`
		Parameters map[string]string `json:"parameters"`
	}{p.Token, w.o.Parameters}
	if err := x.ask(ctx, "$aws/provisioning-templates/"+w.o.Template+"/provision/json", in, out); err != nil {
		return nil, err
	}
	w.o.Step("outcome answered")
	// Likewise (thingName): it is part of topics.
	if !form.Thing.Is(out.Thing, 1, 128) {
		return nil, fmt.Errorf("the template makes no thing, or one called %.130q", out.Thing)
	}
	if string(out.Configuration) == "null" || len(out.Configuration) == 0 {
		out.Configuration = json.RawMessage("{}")
	}
	out.Template, out.At = w.o.Template, time.Now().UTC()
	if err := writeJSON(path, out); err != nil {
		return nil, err
	}
	w.o.Step("outcome")
	return out, nil
}

// thingClient is what the device connects as.
func (w *work) thingClient(thing string) string {
	if w.o.ThingClientID != "" {
		return w.o.ThingClientID
	}
	return thing
}

// try connects with an identity that is not taken up.
func (w *work) try(ctx context.Context, p *pending, key []byte, thing string) error {
	pair, err := tls.X509KeyPair([]byte(p.PEM), key)
	if err != nil {
		return err
	}
	x := &exchange{w: &work{o: w.o, asker: func() (tls.Certificate, error) {
		return pair, nil
	}, clientID: w.thingClient(thing)}}
	defer x.close()
	return x.connect(ctx)
}

// own is the identity that is taken up.
func (w *work) own() (tls.Certificate, error) {
	return secretfile.KeyPair(Paths(w.o.Dir))
}

// retire has the certificates retired that came before an identity.
func (w *work) retire(ctx context.Context, id *Identity) error {
	if len(id.Retire) == 0 || !w.o.Retire {
		return nil
	}
	x := &exchange{w: &work{o: w.o, asker: w.own, clientID: w.thingClient(id.Thing)}}
	defer x.close()
	for _, old := range slices.Clone(id.Retire) {
		err := x.ask(ctx, "$tidemill/certificates/"+old+"/retire/json", struct{}{}, &struct{}{})
		// One that is not there any more, or never came to be of this thing, is
		// as good as retired.
		if no := (*rejected)(nil); errors.As(err, &no) && (no.Status == 404 || no.Status == 403) {
			w.o.Log.Info("the old certificate is not there to be retired", "certificate", old, "err", err)
			err = nil
		}
		if err != nil {
			return fmt.Errorf("retire certificate %s: %w", old, err)
		}
		w.o.Step("retired")
		id.Retire = slices.DeleteFunc(id.Retire, func(s string) bool { return s == old })
		if err := writeJSON(filepath.Join(w.o.Dir, link, identityFile), id); err != nil {
			return err
		}
		w.o.Log.Info("the old certificate is retired", "certificate", old)
	}
	return nil
}
