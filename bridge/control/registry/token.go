package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Of tokens. AWS's live one hour (developer guide, "Device provisioning MQTT
// API"), its claims five minutes.
const (
	TokenLife   = time.Hour
	OutcomeLife = 24 * time.Hour // for which the same request gets the same answer
	ClaimLife   = 5 * time.Minute
	// maxTokens bounds what devices with a claim certificate can make the
	// registry keep: beyond it they are refused until some have ended.
	maxTokens = 100_000
)

// A Token is what a device shows that asked for a certificate and now asks to
// be provisioned with it; or the end of a temporary claim certificate.
type Token struct {
	Certificate string          `json:"certificate"` // PENDING_ACTIVATION until there is an outcome
	Expires     time.Time       `json:"expires"`
	Claim       bool            `json:"claim,omitempty"`   // the certificate is a claim, and ends with the token
	Asked       string          `json:"asked,omitempty"`   // what the outcome answers: a hash of template and parameters
	Outcome     json.RawMessage `json:"outcome,omitempty"` // the answer, once the device is provisioned
}

// AddToken stores a token under the hash of its text, for TokenLife or, for a
// claim, ClaimLife. Too many are ErrLimit.
func (t *Tx) AddToken(hash string, k Token) (Token, error) {
	life := TokenLife
	if k.Claim {
		life = ClaimLife
	}
	k.Expires = t.reg.now().UTC().Add(life)
	if n := t.tx.Bucket(bTokens).Sequence(); n >= maxTokens {
		return k, fmt.Errorf("%d certificates wait to be provisioned: %w", n, ErrLimit)
	}
	if err := t.countTokens(1); err != nil {
		return k, err
	}
	return k, t.put(bTokens, hash, &k)
}

// countTokens keeps the number of tokens in the bucket's sequence.
func (t *Tx) countTokens(by int) error {
	b := t.tx.Bucket(bTokens)
	return b.SetSequence(uint64(max(0, int(b.Sequence())+by)))
}

// Token returns a token that has not expired, else ErrNotFound.
func (t *Tx) Token(hash string) (Token, error) {
	var k Token
	if err := t.get(bTokens, "certificate ownership token", hash, &k); err != nil {
		return Token{}, fmt.Errorf("certificate ownership token: %w", ErrNotFound) // without its hash
	}
	if t.reg.now().After(k.Expires) {
		return Token{}, fmt.Errorf("certificate ownership token: expired: %w", ErrNotFound)
	}
	return k, nil
}

// EndToken stores the outcome of a token, which is then kept for OutcomeLife.
func (t *Tx) EndToken(hash, asked string, outcome json.RawMessage) error {
	k, err := t.Token(hash)
	if err != nil {
		return err
	}
	k.Asked, k.Outcome, k.Expires = asked, outcome, t.reg.now().UTC().Add(OutcomeLife)
	return t.put(bTokens, hash, &k)
}

// TokensDue says whether there is something for SweepTokens, and when the next
// token expires, zero for none.
func (t *Tx) TokensDue() (due bool, next time.Time, err error) {
	now := t.reg.now()
	err = t.tx.Bucket(bTokens).ForEach(func(_, raw []byte) error {
		var k Token
		if err := json.Unmarshal(raw, &k); err != nil {
			return fmt.Errorf("certificate ownership token: %w: %w", ErrCorrupt, err)
		}
		if now.After(k.Expires) {
			due = true
		} else if next.IsZero() || k.Expires.Before(next) {
			next = k.Expires
		}
		return nil
	})
	return due, next, err
}

// SweepTokens forgets up to n tokens that have expired, with the certificates
// that nobody was provisioned with, and returns how many.
func (t *Tx) SweepTokens(n int) (swept int, err error) {
	now := t.reg.now()
	var old []string
	dead := map[string]bool{}
	c := t.tx.Bucket(bTokens).Cursor()
	for key, raw := c.First(); key != nil && len(old) < n; key, raw = c.Next() {
		var k Token
		if err := json.Unmarshal(raw, &k); err != nil {
			return 0, fmt.Errorf("certificate ownership token: %w: %w", ErrCorrupt, err)
		}
		if !now.After(k.Expires) {
			continue
		}
		old = append(old, string(key))
		if k.Outcome == nil {
			dead[k.Certificate] = k.Claim
		}
	}
	for _, key := range old {
		if err := t.tx.Bucket(bTokens).Delete([]byte(key)); err != nil {
			return 0, err
		}
	}
	if err := t.countTokens(-len(old)); err != nil {
		return 0, err
	}
	for id, claim := range dead {
		if err := t.discard(id, claim); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}

// discard deletes a certificate that nobody was provisioned with, or a claim.
func (t *Tx) discard(id string, claim bool) error {
	c, err := t.Certificate(id)
	if errors.Is(err, ErrNotFound) || err == nil && !claim && c.Status != PendingActivation {
		return nil // somebody has taken it in hand
	}
	if err != nil {
		return err
	}
	if err := t.putStatus(&c, Inactive); err != nil {
		return err
	}
	return t.DeleteCertificate(id, true)
}

// RegisterPending stores a certificate of the bridge's own that waits for its
// device to be provisioned.
func (t *Tx) RegisterPending(text []byte) (Certificate, error) {
	cert, err := parseCertificate(text)
	if err != nil {
		return Certificate{}, err
	}
	return t.register(cert, PendingActivation, "")
}
