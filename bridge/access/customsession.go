package access

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/customauth"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// An unauthenticated client asked for a WebSocket without a signature or
// certificate: a custom authorizer is asked when its CONNECT has come.
type unauthenticated struct{ attempt *customauth.Attempt }

// attemptOf is what an HTTP request shows to authorizers.
func attemptOf(r *http.Request) *customauth.Attempt {
	a := &customauth.Attempt{HTTP: customauth.FromRequest(r)}
	if r.TLS != nil {
		a.TLS, a.ServerName = true, r.TLS.ServerName
	}
	return a
}

// connectUnauthenticated asks a custom authorizer about an MQTT client; before is
// what the client showed before its CONNECT, nil for nothing.
func (a *Authorizer) connectUnauthenticated(ctx context.Context, c *gateway.Connect,
	before *customauth.Attempt) (gateway.Session, error) {
	if s, ok := c.Memo.(*customSession); ok && s.mayConnect() {
		return s, nil // the gateway asks again because of the registry, which does not concern the authorizer
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
	known := connectContext(c)
	known.Account, known.Region, known.Insecure = a.o.Account, a.o.Region, !attempt.TLS
	s := newCustomSession(a, attempt, v, known)
	if !s.mayConnect() {
		return nil, fmt.Errorf("%w: authorizer %s does not let %s connect as %q", gateway.ErrNotAuthorized,
			v.Authorizer, v.Principal, c.ClientID)
	}
	c.Memo = s
	return s, nil
}

// A customSession has the rights that a custom authorizer gave a client. It
// implements gateway.Session, gateway.Lasting and Caller.
type customSession struct {
	topicRights
	a         *Authorizer
	attempt   *customauth.Attempt
	known     authz.Context
	name      string // of the authorizer
	principal string // as the authorizer calls the client
	ends      time.Time

	verdict atomic.Pointer[verdict]
	refresh time.Duration // of Begin's goroutine
}

// A verdict is the last answer of an authorizer about a client.
type verdict struct {
	policy *authz.Evaluator
	until  time.Time // that it counts: while the client is connected, the authorizer is asked again before
}

// refreshGrace is added to how long a verdict counts: it takes time to ask the
// authorizer again, and to end a connection.
const refreshGrace = 10 * time.Second

func newCustomSession(a *Authorizer, attempt *customauth.Attempt, v *customauth.Verdict,
	known authz.Context) *customSession {
	s := &customSession{a: a, attempt: attempt, known: known, name: v.Authorizer, principal: v.Principal,
		ends: time.Now().Add(v.Disconnect)}
	s.topicRights = topicRights{s}
	s.setVerdict(v)
	return s
}

// setVerdict stores the authorizer's answer.
func (s *customSession) setVerdict(v *customauth.Verdict) {
	s.refresh = v.Refresh
	until := time.Now().Add(v.Refresh)
	if until.After(s.ends) {
		until = s.ends
	}
	s.verdict.Store(&verdict{authz.Compile(v.Policies, s.known), until.Add(refreshGrace)})
}

// Begin implements gateway.Lasting: the connection ends when the authorizer
// said, and the authorizer is asked again when it said that.
func (s *customSession) Begin(end func(reason string)) (ended func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		last := time.NewTimer(time.Until(s.ends))
		defer last.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-last.C:
				end(gateway.ReasonCustomAuth)
				return
			case <-time.After(s.refresh):
			}
			if !s.Refresh(ctx) {
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

// Refresh asks the authorizer again, and says whether the client may stay. If the
// authorizer does not answer, or answers for another principal, the client may do
// nothing any more.
func (s *customSession) Refresh(ctx context.Context) bool {
	v, err := s.a.o.Custom.Ask(ctx, s.attempt)
	if ctx.Err() != nil { // the client left meanwhile
		return false
	}
	if err != nil || v.Principal != s.principal || v.Authorizer != s.name {
		s.verdict.Store(&verdict{})
		return false
	}
	s.setVerdict(v)
	return s.mayConnect()
}

// May implements Caller. The will of a client that has left may still ask, when
// the authorizer is not asked about the client any more.
func (s *customSession) May(action, resource string) bool {
	w := s.verdict.Load()
	return time.Now().Before(w.until) && w.policy.Allows(action, resource)
}

func (s *customSession) mayConnect() bool { return s.May(authz.Connect, s.known.ClientID) }

// Principal is what the authorizer calls the client.
func (s *customSession) Principal() string { return s.principal }

// Owner implements Caller. Two authorizers may give two clients one name, which
// has no slash.
func (s *customSession) Owner() string { return "authorizer/" + s.name + "/" + s.principal }

// Thing is empty: a client without a certificate is no thing.
func (s *customSession) Thing() string { return "" }
