// Package customauth asks custom authorizers who a client is: HTTP services of the
// operator's own, which get the document that AWS IoT gives to the Lambda
// function of an authorizer, and answer with the same document (AWS IoT Core
// developer guide, "Custom authentication and authorization").
//
// A client names its authorizer, or gets the default one, and shows a token with
// a signature, a user name and password, or both. The token's signature is
// checked before anybody is asked, so that strangers cost nobody a call. What
// goes wrong refuses the client: a service that is late, or away, or that does
// not answer as it should. Each authorizer has its own calls (webhook.Service), so
// that one that hangs refuses its own clients and nobody else's.
//
// Caveats: the names of HTTP headers are given in lower case; the user name is
// given as it came, with the query that names the authorizer. Both are guesses
// about AWS.
package customauth

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/webhook"
)

// Limits of AWS (AWS IoT Core quotas, custom authentication).
const (
	maxPolicies  = 10
	maxPrincipal = 128
	leastTime    = 300 * time.Second
	mostTime     = 86400 * time.Second
)

// Keys of HTTP headers, queries and MQTT user names.
const (
	NameKey      = "x-amz-customauthorizer-name"
	SignatureKey = "x-amz-customauthorizer-signature"
)

// ErrRefused says that the client may not in: nobody vouches for it.
var ErrRefused = errors.New("customauth: not authenticated")

// ErrFailed says that the authorizer could not be asked or did not answer as it
// should; the client may not in either.
var ErrFailed = errors.New("customauth: authorizer failed")

// An Authorizer is one that may be asked.
type Authorizer struct {
	Name string
	URL  string // gets POST with a JSON document; or the ARN of a function
	// TokenKey is the header, or key of a query, that has the token; empty:
	// none.
	TokenKey string
	// PublicKeys, in PEM and RSA, verify the token's signature. Without them
	// tokens are not signed.
	PublicKeys [][]byte
	Default    bool // asked for clients that name none
	Disabled   bool
	Cache      bool // said of its verdicts
	MaxCalls   int  // under way at once; 0: webhook.DefaultCalls
}

// A hook is an Authorizer that was read.
type hook struct {
	Authorizer
	keys    []*rsa.PublicKey
	service *webhook.Service
}

// Authorizers are those of a bridge. Several goroutines may use them.
type Authorizers struct {
	now    atomic.Pointer[set]
	client *webhook.Client

	mu    sync.Mutex // guards stats
	stats map[Outcome]Count
}

// An Outcome is what became of an attempt: "allowed", "refused", "failed", or
// "busy" if too many calls of the authorizer were under way. Authorizer is empty
// where there was none to ask.
type Outcome struct{ Authorizer, Verdict string }

// A Count is how often there was an outcome, and how long that took in all.
type Count struct {
	Clients uint64
	Time    time.Duration
}

// Stats is what became of the attempts so far.
func (as *Authorizers) Stats() map[Outcome]Count {
	as.mu.Lock()
	defer as.mu.Unlock()
	return maps.Clone(as.stats)
}

func (as *Authorizers) count(h *hook, took time.Duration, err error) {
	o := Outcome{Verdict: "allowed"}
	if h != nil {
		o.Authorizer = h.Name
	}
	switch {
	case errors.Is(err, ErrRefused):
		o.Verdict = "refused"
	case errors.Is(err, webhook.ErrBusy):
		o.Verdict = "busy"
	case err != nil:
		o.Verdict = "failed"
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	c := as.stats[o]
	as.stats[o] = Count{c.Clients + 1, c.Time + took}
}

// A set is the authorizers that there are at a time. It doesn't change.
type set struct {
	byName   map[string]*hook
	standard *hook
}

// New reads the authorizers; report is called for those that fail, by their names, and
// may be nil. Close lets their connections go.
func New(all []Authorizer, functions webhook.Functions, report webhook.Report) (*Authorizers, error) {
	as := &Authorizers{stats: map[Outcome]Count{}, client: webhook.NewClient(functions, report)}
	as.now.Store(&set{})
	return as, as.Set(all)
}

// Set puts other authorizers in the place of those that there are, all of them
// or, with an error, none. Those that are being asked answer still, and those that
// stay at their URL have no more calls for it.
func (as *Authorizers) Set(all []Authorizer) error {
	s, err := read(all)
	if err != nil {
		return err
	}
	before := as.now.Load()
	for name, h := range s.byName {
		if old := before.byName[name]; old != nil && old.service.Same(h.service) {
			h.service = old.service
		}
	}
	as.now.Store(s)
	return nil
}

func read(all []Authorizer) (*set, error) {
	s := &set{byName: map[string]*hook{}}
	var errs []error
	for _, a := range all {
		h := &hook{Authorizer: a, service: webhook.NewService(a.Name, a.URL, a.MaxCalls)}
		if s.byName[a.Name] != nil {
			errs = append(errs, fmt.Errorf("authorizer %s: is there twice", a.Name))
		}
		for i, text := range a.PublicKeys {
			key, err := publicKey(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("authorizer %s: public key %d: %w", a.Name, i+1, err))
			}
			h.keys = append(h.keys, key)
		}
		s.byName[a.Name] = h
		if a.Default && s.standard != nil {
			errs = append(errs, fmt.Errorf("authorizers %s and %s: both are the default", s.standard.Name, a.Name))
		}
		if a.Default {
			s.standard = h
		}
	}
	return s, errors.Join(errs...)
}

func publicKey(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	any, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := any.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 {
		return nil, errors.New("want RSA with at least 2048 bits")
	}
	return key, nil
}

// Check says what is wrong with an authorizer.
func Check(a Authorizer) error {
	_, err := read([]Authorizer{a})
	return err
}

// Close lets idle connections go.
func (as *Authorizers) Close() { as.client.Close() }

// Any says whether there is one that could be asked.
func (as *Authorizers) Any() bool {
	for _, h := range as.now.Load().byName {
		if !h.Disabled {
			return true
		}
	}
	return false
}

// An HTTP is what a client said in an HTTP request. Names are in lower case.
type HTTP struct {
	Headers     map[string]string `json:"headers"`
	QueryString string            `json:"queryString,omitempty"`
}

// FromRequest returns what r says. Of headers that are there several times the
// values are joined.
func FromRequest(r *http.Request) *HTTP {
	h := &HTTP{Headers: map[string]string{"host": r.Host}}
	for name, values := range r.Header {
		h.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if r.URL.RawQuery != "" {
		h.QueryString = "?" + r.URL.RawQuery
	}
	return h
}

// Same is what has to be the same for an answer to hold for another request:
// all but what tells requests of one client apart.
func (h *HTTP) Same() *HTTP {
	same := &HTTP{Headers: map[string]string{}, QueryString: h.QueryString}
	for name, value := range h.Headers {
		switch name {
		case "content-length", "date", "x-amzn-trace-id":
		default:
			same.Headers[name] = value
		}
	}
	return same
}

// An MQTT is what a client said in its CONNECT.
type MQTT struct {
	Username string `json:"username,omitempty"`
	Password []byte `json:"password,omitempty"` // base64 in JSON
	ClientID string `json:"clientId"`
}

// An Attempt is what a client shows. HTTP is nil for plain MQTT, MQTT for plain
// HTTP.
type Attempt struct {
	ServerName string // of TLS
	TLS        bool
	HTTP       *HTTP
	MQTT       *MQTT
	ID         string // of the connection; "": a new one
	// Shown are keys, in lower case, that come from elsewhere and before all
	// others. Who has them tests an authorizer, which may be disabled.
	Shown map[string]string
}

// value looks for a key: in the HTTP headers, the HTTP query, then the query
// behind the user name.
func (a *Attempt) value(key string) string {
	if key == "" {
		return ""
	}
	if v := a.Shown[strings.ToLower(key)]; v != "" {
		return v
	}
	if a.HTTP != nil {
		if v := a.HTTP.Headers[strings.ToLower(key)]; v != "" {
			return v
		}
		if v := fromQuery(strings.TrimPrefix(a.HTTP.QueryString, "?"), key); v != "" {
			return v
		}
	}
	if a.MQTT != nil {
		_, query, _ := strings.Cut(a.MQTT.Username, "?")
		return fromQuery(query, key)
	}
	return ""
}

// fromQuery finds a key of a query. What cannot be unescaped is as it is: the
// user name is not made by a browser.
func fromQuery(query, key string) string {
	for pair := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if !strings.EqualFold(k, key) {
			continue
		}
		if text, err := url.PathUnescape(v); err == nil { // base64 has +, which is no space
			return text
		}
		return v
	}
	return ""
}

// Named says whether the client names an authorizer.
func (a *Attempt) Named() bool { return a.value(NameKey) != "" }

// choose returns the authorizer that a is for, and whether the token was signed.
func (as *Authorizers) choose(a *Attempt) (h *hook, verified bool, err error) {
	s := as.now.Load()
	h = s.standard
	if name := a.value(NameKey); name != "" {
		h = s.byName[name]
	}
	switch {
	case h == nil:
		return nil, false, fmt.Errorf("%w: there is no such authorizer, or no default one", ErrRefused)
	case h.Disabled && a.Shown == nil:
		return nil, false, fmt.Errorf("%w: authorizer %s is disabled", ErrRefused, h.Name)
	case len(h.keys) == 0:
		return h, false, nil
	}
	token, text := a.value(h.TokenKey), a.value(SignatureKey)
	signature, err := base64.StdEncoding.DecodeString(text)
	if token == "" || text == "" || err != nil {
		return nil, false, fmt.Errorf("%w: authorizer %s wants a token in %q and its signature", ErrRefused, h.Name,
			h.TokenKey)
	}
	sum := sha256.Sum256([]byte(token))
	for _, key := range h.keys {
		if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil {
			return h, true, nil
		}
	}
	return nil, false, fmt.Errorf("%w: authorizer %s: the token's signature is wrong", ErrRefused, h.Name)
}

// Check says what is wrong with an attempt before anybody is asked; a user name
// that comes later may still name another authorizer.
func (as *Authorizers) Check(a *Attempt) error {
	if a.Named() {
		_, _, err := as.choose(a)
		return err
	}
	if !as.Any() {
		return fmt.Errorf("%w: there are no authorizers", ErrRefused)
	}
	return nil
}

// A Verdict is an authorizer's word for a client.
type Verdict struct {
	Authorizer string
	Principal  string
	Policies   []*authz.Document
	Documents  [][]byte      // the texts of Policies
	Cache      bool          // for HTTPS: holds for the connection
	Disconnect time.Duration // after this the connection ends
	Refresh    time.Duration // after this the authorizer is asked again
}

// Ask asks the authorizer of an attempt. It blocks for 5 s at most. The error is
// ErrRefused or ErrFailed.
func (as *Authorizers) Ask(ctx context.Context, a *Attempt) (v *Verdict, err error) {
	began := time.Now()
	h, verified, err := as.choose(a)
	defer func() { as.count(h, time.Since(began), err) }()
	if err != nil {
		return nil, err
	}
	err = as.client.Ask(ctx, h.service, question(a, h, verified), func(answer []byte) (err error) {
		v, err = readAnswer(answer)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: authorizer %s: %w", ErrFailed, h.Name, err)
	case v == nil:
		return nil, fmt.Errorf("%w by authorizer %s", ErrRefused, h.Name)
	}
	v.Authorizer, v.Cache = h.Name, h.Cache
	return v, nil
}

// question is the document that an authorizer gets.
func question(a *Attempt, h *hook, verified bool) any {
	type tlsData struct {
		ServerName string `json:"serverName"`
	}
	type data struct {
		TLS  *tlsData `json:"tls,omitempty"`
		HTTP *HTTP    `json:"http,omitempty"`
		MQTT *MQTT    `json:"mqtt,omitempty"`
	}
	doc := struct {
		Token      string            `json:"token,omitempty"`
		Verified   bool              `json:"signatureVerified"`
		Protocols  []string          `json:"protocols"`
		Data       data              `json:"protocolData"`
		Connection map[string]string `json:"connectionMetadata"`
	}{Token: a.value(h.TokenKey), Verified: verified, Protocols: []string{}, Data: data{HTTP: a.HTTP, MQTT: a.MQTT}}
	if a.TLS {
		doc.Protocols = append(doc.Protocols, "tls")
		doc.Data.TLS = &tlsData{a.ServerName}
	}
	if a.HTTP != nil {
		doc.Protocols = append(doc.Protocols, "http")
	}
	if a.MQTT != nil {
		doc.Protocols = append(doc.Protocols, "mqtt")
	}
	if a.ID == "" {
		a.ID = uuid.NewString()
	}
	doc.Connection = map[string]string{"id": a.ID}
	return doc
}

// readAnswer reads an answer; the verdict is nil if it refuses the client. Nothing
// in it is optional but the times.
func readAnswer(answer []byte) (*Verdict, error) {
	var doc struct {
		IsAuthenticated          *bool             `json:"isAuthenticated"`
		PrincipalID              string            `json:"principalId"`
		PolicyDocuments          []json.RawMessage `json:"policyDocuments"`
		DisconnectAfterInSeconds *int64            `json:"disconnectAfterInSeconds"`
		RefreshAfterInSeconds    *int64            `json:"refreshAfterInSeconds"`
	}
	bad := func(format string, args ...any) (*Verdict, error) { return nil, fmt.Errorf(format, args...) }
	if err := json.Unmarshal(answer, &doc); err != nil {
		return nil, err
	}
	switch {
	case doc.IsAuthenticated == nil:
		return bad("isAuthenticated is not there")
	case !*doc.IsAuthenticated:
		return nil, nil
	case doc.PrincipalID == "" || len(doc.PrincipalID) > maxPrincipal ||
		strings.Trim(doc.PrincipalID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "":
		return bad("principalId: want 1 to %d letters and digits", maxPrincipal)
	case len(doc.PolicyDocuments) > maxPolicies:
		return bad("policyDocuments: %d, want at most %d", len(doc.PolicyDocuments), maxPolicies)
	}
	v := &Verdict{Principal: doc.PrincipalID}
	for i, text := range doc.PolicyDocuments {
		// A document may be there as one or as a text that holds one.
		if quoted := ""; json.Unmarshal(text, &quoted) == nil {
			text = json.RawMessage(quoted)
		}
		p, err := authz.Parse(text)
		if err != nil {
			return bad("policyDocuments: %d: %w", i+1, err)
		}
		p.Name = fmt.Sprintf("document %d of %s", i+1, v.Principal)
		v.Policies, v.Documents = append(v.Policies, p), append(v.Documents, text)
	}
	for _, t := range []struct {
		name string
		said *int64
		to   *time.Duration
	}{{"disconnectAfterInSeconds", doc.DisconnectAfterInSeconds, &v.Disconnect},
		{"refreshAfterInSeconds", doc.RefreshAfterInSeconds, &v.Refresh}} {
		*t.to = mostTime
		if t.said == nil {
			continue
		}
		if *t.said < int64(leastTime/time.Second) || *t.said > int64(mostTime/time.Second) {
			return bad("%s: %d, want 300 to 86400", t.name, *t.said)
		}
		*t.to = time.Duration(*t.said) * time.Second
	}
	return v, nil
}
