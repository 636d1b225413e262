package registry

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Of tokens. AWS's live one hour (developer guide, "Device provisioning MQTT
// API"), its claims five minutes.
const (
	TokenLife   = time.Hour
	OutcomeLife = 24 * time.Hour // for which the same request gets the same answer
	ClaimLife   = 5 * time.Minute
	// maxTokens bounds what the devices with one claim certificate can make the
	// registry keep: beyond it they are refused until some have ended or led to
	// an outcome, and those with another claim are not.
	maxTokens = 10_000
)

// ClaimPolicy begins the names of the policies of claims. One goes with the last
// claim that has it.
const ClaimPolicy = "tidemill-claim-"

// A Token is what a device shows that asked for a certificate and now asks to
// be provisioned with it; or the end of a temporary claim certificate.
type Token struct {
	Certificate string    `json:"certificate"` // PENDING_ACTIVATION until there is an outcome
	Expires     time.Time `json:"expires"`
	Claim       bool      `json:"claim,omitempty"` // the certificate is a claim, and ends with the token
	By          string    `json:"by,omitempty"`    // the certificate of who asked; "" for a claim
	// what the outcome answers: a hash of template and parameters
	Asked   string          `json:"asked,omitempty"`
	Outcome json.RawMessage `json:"outcome,omitempty"` // the answer, once the device is provisioned
}

// Tokens are in order of their end by keys of a zero byte, the end and the
// token's own key, which is a hash in hexadecimal and so behind them all.
func endKey(hash string, k *Token) string {
	key := binary.BigEndian.AppendUint64([]byte{0}, uint64(k.Expires.UnixNano()))
	return string(append(key, hash...))
}

// firstEnd is the token that ends first; "" for none.
func (t *Tx) firstEnd() (key, hash string, at time.Time) {
	k, _ := t.tx.Table(bTokens).Cursor().First()
	if len(k) < 9 || k[0] != 0 {
		return "", "", time.Time{}
	}
	return string(k), string(k[9:]), time.Unix(0, int64(binary.BigEndian.Uint64(k[1:9])))
}

func (t *Tx) putToken(hash string, k *Token) error {
	if err := t.tx.Table(bTokens).Put([]byte(endKey(hash, k)), nil); err != nil {
		return err
	}
	return t.put(bTokens, hash, k)
}

// AddToken stores a token under the hash of its text in hexadecimal, for
// TokenLife or, for a claim, ClaimLife. Too many By one are ErrLimit.
func (t *Tx) AddToken(hash string, k Token) (Token, error) {
	life := TokenLife
	if k.Claim {
		life = ClaimLife
	}
	k.Expires = t.reg.now().UTC().Add(life)
	n, err := t.countTokens(k.By, 1)
	if err != nil {
		return k, err
	}
	if n > maxTokens {
		return k, fmt.Errorf("%d certificates that one claim asked for wait to be provisioned: %w", maxTokens, ErrLimit)
	}
	return k, t.putToken(hash, &k)
}

// countTokens keeps the number of tokens without outcome that one has asked for,
// under a key of a byte 1 and who that is, and returns it. Tokens of before the
// count are not in it.
func (t *Tx) countTokens(by string, add int) (n int, err error) {
	b, key := t.tx.Table(bTokens), []byte("\x01"+by)
	if v := b.Get(key); len(v) == 8 {
		n = int(binary.BigEndian.Uint64(v))
	}
	if n = max(0, n+add); n == 0 {
		return 0, b.Delete(key)
	}
	return n, b.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// Token returns a token that has not expired, else ErrNotFound.
func (t *Tx) Token(hash string) (Token, error) {
	var k Token
	err := t.get(bTokens, "certificate ownership token", hash, &k)
	switch {
	case errors.Is(err, ErrNotFound):
		return Token{}, fmt.Errorf("certificate ownership token: %w", ErrNotFound) // without its hash
	case err != nil:
		return Token{}, err
	case t.reg.now().After(k.Expires):
		return Token{}, fmt.Errorf("certificate ownership token: expired: %w", ErrNotFound)
	}
	return k, nil
}

// EndToken stores the outcome of a token that has none (else ErrConflict), which
// is then kept for OutcomeLife.
func (t *Tx) EndToken(hash, asked string, outcome json.RawMessage) error {
	k, err := t.Token(hash)
	if err != nil {
		return err
	}
	if k.Outcome != nil {
		return fmt.Errorf("certificate ownership token: used: %w", ErrConflict)
	}
	_, err = t.countTokens(k.By, -1)
	if err := errors.Join(err, t.tx.Table(bTokens).Delete([]byte(endKey(hash, &k)))); err != nil {
		return err
	}
	k.Asked, k.Outcome, k.Expires = asked, outcome, t.reg.now().UTC().Add(OutcomeLife)
	return t.putToken(hash, &k)
}

// TokensDue says whether there is something for SweepTokens, and when the first
// token expires, zero for none.
func (t *Tx) TokensDue() (due bool, next time.Time) {
	key, _, at := t.firstEnd()
	return key != "" && t.reg.deletes().After(at), at
}

// SweepTokens forgets up to n tokens that have expired, with the certificates
// that nobody was provisioned with, and returns how many.
func (t *Tx) SweepTokens(n int) (swept int, err error) {
	now := t.reg.deletes()
	for ; swept < n; swept++ {
		key, hash, at := t.firstEnd()
		if key == "" || !now.After(at) {
			break
		}
		var k Token
		if err := t.get(bTokens, "certificate ownership token", hash, &k); err != nil {
			return swept, err
		}
		b := t.tx.Table(bTokens)
		if err := errors.Join(b.Delete([]byte(key)), b.Delete([]byte(hash))); err != nil {
			return swept, err
		}
		if k.Outcome != nil {
			continue
		}
		_, err := t.countTokens(k.By, -1)
		if err := errors.Join(err, t.discard(k.Certificate, k.Claim)); err != nil {
			return swept, err
		}
	}
	return swept, nil
}

// discard deletes a certificate that nobody was provisioned with, or a claim.
// One that somebody has taken in hand meanwhile is left to him.
func (t *Tx) discard(id string, claim bool) error {
	c, err := t.Certificate(id)
	if errors.Is(err, ErrNotFound) || err == nil && !claim &&
		(c.Status != PendingActivation || t.anyLink(bCertPolicies, id) || t.anyLink(bCertThings, id)) {
		return nil
	}
	if err != nil {
		return err
	}
	policies := t.CertificatePolicies(id)
	if err := t.putStatus(&c, Inactive); err != nil {
		return err
	}
	if err := t.DeleteCertificate(id, true); err != nil {
		return err
	}
	for _, p := range policies {
		if !strings.HasPrefix(p, ClaimPolicy) || t.anyLink(bPolicyTargets, p) {
			continue
		}
		if err := t.DeletePolicy(p); err != nil && !errors.Is(err, ErrConflict) { // it may have got versions
			return err
		}
	}
	return nil
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
