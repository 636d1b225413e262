package access

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/customauth"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/webhook"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// CustomAuthorizers are those of the configuration and those of the registry,
// whose functions are named by the ARNs of the configuration's hooks. It
// implements aws.Authorizers.
type CustomAuthorizers struct {
	*customauth.Authorizers
	registry *registry.Registry
	fixed    []customauth.Authorizer // of the configuration
	hooks    map[string]config.Hook  // where functions are, by ARN
	log      *slog.Logger
}

// OpenCustomAuthorizers reads the custom authorizers of the configuration and of
// the registry. heard is told of each call of their functions. The caller must
// Close it.
func OpenCustomAuthorizers(fixed []config.Authorizer, hooks []config.Hook, r *registry.Registry, heard webhook.Heard, log *slog.Logger) (*CustomAuthorizers, error) {
	c := &CustomAuthorizers{registry: r, hooks: map[string]config.Hook{}, log: log}
	var err error
	if c.fixed, err = configured(fixed); err != nil {
		return nil, err
	}
	for _, h := range hooks {
		c.hooks[h.ARN] = h
	}
	if c.Authorizers, err = customauth.New(c.fixed, heard); err != nil {
		return nil, err
	}
	c.Load()
	return c, nil
}

// Load takes up what the registry has. An authorizer that cannot be used, such
// as one whose hook is not configured any more, is left out: its clients are
// refused.
func (c *CustomAuthorizers) Load() {
	all := slices.Clone(c.fixed)
	standard := c.Standard() != ""
	err := c.registry.View(func(tx *registry.Tx) error {
		for after := ""; ; {
			page, next, err := tx.Authorizers(after, 0)
			for i := range page {
				if err := c.Usable(&page[i]); err != nil {
					c.log.Warn("an authorizer is not used", "err", err)
					continue
				}
				a := c.read(&page[i])
				a.Default = !standard && tx.DefaultAuthorizer() == a.Name
				all = append(all, a)
			}
			if after = next; err != nil || next == "" {
				return err
			}
		}
	})
	if err == nil {
		err = c.Set(all)
	}
	if err != nil {
		c.log.Error("custom authorizers stay as they were", "err", err)
	}
}

// Standard implements aws.Authorizers.
func (c *CustomAuthorizers) Standard() string {
	i := slices.IndexFunc(c.fixed, func(a customauth.Authorizer) bool { return a.Default })
	if i < 0 {
		return ""
	}
	return c.fixed[i].Name
}

func (c *CustomAuthorizers) read(a *registry.Authorizer) customauth.Authorizer {
	h := c.hooks[a.Function]
	out := customauth.Authorizer{Name: a.Name, URL: h.URL, MaxCalls: h.MaxCalls, TokenKey: a.TokenKey, Disabled: a.Status != registry.Active, Cache: a.Cache}
	if !a.SigningDisabled {
		for _, name := range slices.Sorted(maps.Keys(a.Keys)) {
			out.PublicKeys = append(out.PublicKeys, []byte(a.Keys[name]))
		}
	}
	return out
}

// Usable implements aws.Authorizers.
func (c *CustomAuthorizers) Usable(a *registry.Authorizer) error {
	if c.hooks[a.Function].URL == "" {
		return fmt.Errorf("authorizer %s: function %.200q: %w: no [[hooks]] of the configuration has this arn", a.Name, a.Function, registry.ErrInvalid)
	}
	if slices.ContainsFunc(c.fixed, func(f customauth.Authorizer) bool { return f.Name == a.Name }) {
		return fmt.Errorf("authorizer %s: %w: the configuration has one of this name", a.Name, registry.ErrInvalid)
	}
	if err := customauth.Check(c.read(a)); err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	return nil
}

// Test implements aws.Authorizers.
func (c *CustomAuthorizers) Test(ctx context.Context, name, token, signature string, a *customauth.Attempt) (*customauth.Verdict, error) {
	a.Shown = map[string]string{customauth.NameKey: name}
	err := c.registry.View(func(tx *registry.Tx) error {
		stored, err := tx.Authorizer(name)
		if token != "" && stored.TokenKey != "" {
			a.Shown[strings.ToLower(stored.TokenKey)] = token
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if signature != "" {
		a.Shown[customauth.SignatureKey] = signature
	}
	return c.Ask(ctx, a)
}

// configured reads the custom authorizers of the configuration.
func configured(of []config.Authorizer) (all []customauth.Authorizer, err error) {
	for i, c := range of {
		a := customauth.Authorizer{Name: c.Name, URL: c.URL, TokenKey: c.TokenKey, Default: c.Default, Disabled: c.Status == "INACTIVE", Cache: c.Cache, MaxCalls: c.MaxCalls}
		for _, path := range c.PublicKeys {
			key, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("authorizers[%d].public_keys: %w", i, err)
			}
			a.PublicKeys = append(a.PublicKeys, key)
		}
		all = append(all, a)
	}
	return all, nil
}

// A stranger is who asked for a WebSocket without saying who he is: an
// authorizer is asked when his CONNECT has come.
type stranger struct{ attempt *customauth.Attempt }

// attemptOf is what an HTTP request shows to authorizers.
func attemptOf(r *http.Request) *customauth.Attempt {
	a := &customauth.Attempt{HTTP: customauth.FromRequest(r)}
	if r.TLS != nil {
		a.TLS, a.ServerName = true, r.TLS.ServerName
	}
	return a
}

// connectStranger asks an authorizer about a client of MQTT; a is what it said
// before its CONNECT, if anything.
func (a *Authorizer) connectStranger(ctx context.Context, c *gateway.Connect, before *customauth.Attempt) (gateway.Session, error) {
	if g, ok := c.Memo.(*guest); ok && g.mayStay() {
		return g, nil // what made the gateway ask again is none of the authorizer's
	}
	attempt := &customauth.Attempt{}
	if before != nil {
		*attempt = *before
	}
	if c.TLS != nil {
		attempt.TLS, attempt.ServerName = true, c.TLS.ServerName
	}
	attempt.MQTT = &customauth.MQTT{Username: c.Username, Password: c.Password, ClientID: c.ClientID}
	v, err := a.o.Custom.Ask(ctx, attempt)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", gateway.ErrNotAuthorized, err)
	}
	known := authz.Context{Account: a.o.Account, Region: a.o.Region, ClientID: c.ClientID, SourceIP: sourceIP(c), Insecure: !attempt.TLS, Persistent: !c.CleanSession}
	if c.Will != nil {
		known.Will = c.Will.Topic
	}
	s := newGuest(a, attempt, v, known)
	if !s.mayStay() {
		return nil, fmt.Errorf("%w: authorizer %s does not let %s connect as %q", gateway.ErrNotAuthorized, v.Authorizer, v.Principal, c.ClientID)
	}
	c.Memo = s
	return s, nil
}

// A guest is a client for whom a custom authorizer vouched. It implements
// gateway.Lasting and aws.Caller.
type guest struct {
	a         *Authorizer
	attempt   *customauth.Attempt
	known     authz.Context
	name      string // of the authorizer
	principal string // as the authorizer calls him
	ends      time.Time

	word    atomic.Pointer[word]
	refresh time.Duration // of Begin's goroutine
}

// A word is what an authorizer said last of a guest.
type word struct {
	policy *authz.Evaluator
	until  time.Time // it counts: the authorizer is asked again before, while the guest is connected
}

// askingTime is added to how long a word counts: the authorizer takes its time to
// be asked again, and a connection to end.
const askingTime = 10 * time.Second

func newGuest(a *Authorizer, attempt *customauth.Attempt, v *customauth.Verdict, known authz.Context) *guest {
	g := &guest{a: a, attempt: attempt, known: known, name: v.Authorizer, principal: v.Principal, ends: time.Now().Add(v.Disconnect)}
	g.said(v)
	return g
}

// said takes the authorizer's word.
func (g *guest) said(v *customauth.Verdict) {
	g.refresh = v.Refresh
	until := time.Now().Add(v.Refresh)
	if until.After(g.ends) {
		until = g.ends
	}
	g.word.Store(&word{authz.Compile(v.Policies, g.known), until.Add(askingTime)})
}

// Begin implements gateway.Lasting: the connection ends when the authorizer
// said, and the authorizer is asked again when it said that.
func (g *guest) Begin(end func(reason string)) (ended func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		last := time.NewTimer(time.Until(g.ends))
		defer last.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-last.C:
				end(gateway.ReasonCustomAuth)
				return
			case <-time.After(g.refresh):
			}
			if !g.Refresh(ctx) {
				end(gateway.ReasonForbidden)
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// Refresh asks the authorizer anew. Without its word, or with one for somebody
// else or another authorizer's, the client may do nothing any more and not stay.
func (g *guest) Refresh(ctx context.Context) bool {
	v, err := g.a.o.Custom.Ask(ctx, g.attempt)
	if ctx.Err() != nil { // the client left meanwhile
		return false
	}
	if err != nil || v.Principal != g.principal || v.Authorizer != g.name {
		g.word.Store(&word{})
		return false
	}
	g.said(v)
	return g.mayStay()
}

// May implements aws.Caller. The will of a guest who has left may still ask, when
// nobody asks the authorizer for him any more.
func (g *guest) May(action, resource string) bool {
	w := g.word.Load()
	return time.Now().Before(w.until) && w.policy.Allows(action, resource)
}

func (g *guest) mayStay() bool { return g.May(authz.Connect, g.known.ClientID) }

// Principal is what the authorizer calls the client.
func (g *guest) Principal() string { return g.principal }

// Owner implements aws.Caller: two authorizers may know two by one name, which
// has no slash.
func (g *guest) Owner() string { return "authorizer/" + g.name + "/" + g.principal }

// Thing is empty: who has no certificate is no thing.
func (g *guest) Thing() string { return "" }

// MayPublish implements gateway.Session.
func (g *guest) MayPublish(topic string, retain bool) bool {
	return g.May(authz.Publish, topic) && (!retain || g.May(authz.RetainPublish, topic))
}

// MaySubscribe implements gateway.Session.
func (g *guest) MaySubscribe(filter string) bool { return g.May(authz.Subscribe, filter) }

// MayReceive implements gateway.Session.
func (g *guest) MayReceive(topic string) bool { return g.May(authz.Receive, topic) }

// A remembered guest is one of an HTTPS connection.
type remembered struct {
	of    [sha256.Size]byte // what he showed
	guest *guest
	until time.Time
}

// guestOf asks an authorizer about an HTTPS request, or remembers what it said
// of the same on this connection.
func (a *Authorizer) guestOf(r *http.Request) (Caller, error) {
	attempt := attemptOf(r)
	p := peerOf(r)
	key, err := json.Marshal(attempt.HTTP.Same())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	if g := p.recall(sum); g != nil {
		return g, nil
	}
	v, err := a.o.Custom.Ask(r.Context(), attempt)
	if err != nil {
		a.o.Log.LogAttrs(r.Context(), slog.LevelDebug, "request refused", slog.String("remote", r.RemoteAddr), slog.Any("err", err))
		return nil, ErrForbidden
	}
	g := newGuest(a, attempt, v, authz.Context{Account: a.o.Account, Region: a.o.Region, SourceIP: addressOf(r.RemoteAddr), Insecure: !attempt.TLS})
	if v.Cache {
		p.remember(sum, g, min(v.Refresh, v.Disconnect))
	}
	return g, nil
}

// recall returns the guest who showed the same before, nil for none.
func (p *peer) recall(sum [sha256.Size]byte) *guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil || p.last.of != sum || !time.Now().Before(p.last.until) {
		return nil
	}
	return p.last.guest
}

// remember keeps one guest of the connection.
func (p *peer) remember(sum [sha256.Size]byte, g *guest, life time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = &remembered{sum, g, time.Now().Add(life)}
}
