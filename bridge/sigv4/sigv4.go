// Package sigv4 verifies requests that are signed with AWS's Signature
// Version 4, in the Authorization header or, presigned, in the query.
//
// The rules are those of the IAM User Guide, "Create a signed AWS API
// request"; the tests hold AWS's own test suite for signers. What is verified
// is what handlers see afterwards: the query is decoded as net/url does it and
// encoded again, so that no second spelling of it has the same signature and
// another meaning. The path is signed without its dot segments and repeated
// slashes, so a handler must not give those a meaning of their own.
//
// Signatures are not remembered, as AWS's are not: until its time is over a
// request may be sent again. TLS keeps it from others. The order of query
// parameters of one name is not signed, so a handler must not give it a meaning
// either.
//
// S3 differs: its paths are encoded once, where others' are encoded twice, and
// are not normalized; its bodies are verified while they are read (Payload), and
// may come in chunks; any region may be signed for; and URLs may be signed by its
// version 2.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// What Verify finds wrong. The texts behind them say which part.
var (
	ErrMissing = errors.New("the request is not signed")
	//lint:ignore ST1005 AWS's text
	ErrBoth = errors.New(
		"Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	ErrIncomplete = errors.New("the signature is not complete")
	ErrUnknownKey = errors.New("the access key or session token is not known")
	ErrMismatch   = errors.New("the signature does not match the request")
	ErrTime       = errors.New("the request is not of this time")
	ErrExpired    = fmt.Errorf("%w: it has expired", ErrTime) // a presigned one
	ErrContent    = errors.New("the content is not what X-Amz-Content-Sha256 says")
	ErrTooLarge   = errors.New("the request's body is too large")
	ErrBody       = errors.New("the request's body could not be read") // malformed chunks, or it ends early
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	unsigned   = "UNSIGNED-PAYLOAD"
	s3         = "s3" // the service that differs

	maxSkew   = 5 * time.Minute    // either way (IAM User Guide, "Signature Version 4 request elements")
	maxExpiry = 7 * 24 * time.Hour // of a presigned request (likewise)

	maxAuthorization = 4 << 10 // bytes of the header
	maxSignedHeaders = 64      // names in it
)

// A Verifier knows the keys. Several goroutines may use it.
type Verifier struct {
	// Secret returns the secret of an access key, and the session token that
	// requests with it carry, which is empty for a key without one.
	Secret func(keyID string) (secret, sessionToken string, ok bool)
	// Unsigned says which services take requests whose body is not signed;
	// nil: none.
	Unsigned func(service string) bool
	// Region is the one that requests must be signed for, but S3's; "": any.
	Region string
	// Permissive takes any signature by any key, at any time: what a request
	// says of its service is read, and nothing is verified. It is taken as if
	// it was signed for Region.
	Permissive bool
	Now        func() time.Time // nil: time.Now
}

// An Identity is who signed a request, and what for.
type Identity struct {
	KeyID   string
	Region  string
	Service string // "iot", "kinesis"
}

// A Signature is that of a request by a known key, and of this time. Whether it
// is right depends on the body, which only Check needs.
type Signature struct {
	v             *Verifier
	r             *http.Request
	said          *signed
	v2            *signedV2 // in the place of said
	secret, token string
}

// Begin reads the signature of r, which must be as the server received it, but
// not its body. Who knows no key's id comes no further, and can make the
// server neither hold bodies nor wait for them.
//
// The Identity says who the signer claims to be also beside an error that comes
// after the signature's parts were read, and is for logs then.
func (v *Verifier) Begin(r *http.Request) (*Signature, Identity, error) {
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	old, err := parseV2(r)
	if err != nil {
		return nil, Identity{}, err
	}
	if old != nil {
		return v.beginV2(r, old, now())
	}
	s, err := parse(r)
	if err != nil {
		return nil, Identity{}, err
	}
	id := Identity{s.keyID, s.region, s.service}
	sig := &Signature{v: v, r: r, said: s}
	if v.Permissive {
		if v.Region != "" {
			id.Region = v.Region
		}
		return sig, id, nil
	}
	if v.Region != "" && s.region != v.Region && s.service != s3 {
		return nil, id, fmt.Errorf(
			"%w: Credential should be scoped to a valid region, not %.40q: this bridge's is %q, so set "+
				"AWS_REGION to that, or region in its configuration",
			ErrMismatch, s.region, v.Region)
	}
	if err := s.covers(r.Header); err != nil {
		return nil, id, err
	}
	if err := s.inTime(now()); err != nil {
		return nil, id, err
	}
	known := false
	if sig.secret, sig.token, known = v.Secret(s.keyID); !known {
		return nil, id, ErrUnknownKey
	}
	return sig, id, nil
}

// Check verifies the signature over the request and its body, which it reads
// once.
func (sig *Signature) Check(body []byte) error {
	if sig.v.Permissive {
		return nil
	}
	if sig.v2 != nil { // S3's alone, whose bodies are Payloads
		return ErrMismatch
	}
	payload, err := sig.v.payload(sig.r, sig.said, body)
	if err != nil {
		return err
	}
	return sig.match(payload)
}

// payload returns what stands for the body in the canonical request.
func (v *Verifier) payload(r *http.Request, s *signed, body []byte) (string, error) {
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	free := v.Unsigned != nil && v.Unsigned(s.service)
	said := r.Header["X-Amz-Content-Sha256"]
	switch {
	case len(said) > 1:
		return "", fmt.Errorf("%w: X-Amz-Content-Sha256 is given twice", ErrIncomplete)
	case len(said) == 0 && s.presigned && free:
		return unsigned, nil // a presigned request is made before there is a body
	case len(said) == 0 || said[0] == hash:
		return hash, nil
	case said[0] == unsigned && free:
		return unsigned, nil
	case said[0] == unsigned || strings.HasPrefix(said[0], "STREAMING-"):
		return "", fmt.Errorf("%w: X-Amz-Content-Sha256: %.60q is not taken here, the body must be signed as a whole",
			ErrMismatch, said[0])
	}
	return "", fmt.Errorf("%w: X-Amz-Content-Sha256 is not the hash of the body", ErrMismatch)
}

// sign returns the signature that secret gives a canonical request.
func (s *signed) sign(secret, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return hex.EncodeToString(mac(s.key(secret), strings.Join([]string{algorithm, s.time.Format(timeFormat),
		s.scope(), hex.EncodeToString(sum[:])}, "\n")))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// inTime checks the request's time against now. Skew is always allowed.
func (s *signed) inTime(now time.Time) error {
	life := maxSkew
	if s.presigned && s.expires > 0 {
		life = s.expires
	}
	said := func(t time.Time) string { return t.UTC().Format(timeFormat) }
	if s.date != s.time.Format("20060102") {
		return fmt.Errorf("%w: the date in the credential scope, %s, is not that of %s", ErrMismatch, s.date,
			said(s.time))
	}
	if s.time.After(now.Add(maxSkew)) {
		return fmt.Errorf("%w: signature not yet current: %s is still later than %s (%s + 5 min.)", ErrTime,
			said(s.time), said(now.Add(maxSkew)), said(now))
	}
	if s.presigned && s.time.Add(life).Before(now) && s.service == s3 {
		return ErrExpired
	}
	if s.time.Add(life).Before(now) {
		return fmt.Errorf("%w: signature expired: %s is now earlier than %s", ErrTime, said(s.time),
			said(now.Add(-life)))
	}
	return nil
}

// covers returns an error unless the signature covers what AWS wants covered:
// host, and all of x-amz-*. The session token is compared by itself; some
// clients add it after they signed.
func (s *signed) covers(h http.Header) error {
	// of HTTP/2; the SDK for JavaScript 3 signs it
	if !slices.Contains(s.headers, "host") && !slices.Contains(s.headers, ":authority") {
		return fmt.Errorf("%w: 'Host' or ':authority' must be a 'SignedHeader'", ErrMismatch)
	}
	for name := range h {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && lower != "x-amz-security-token" && !slices.Contains(s.headers, lower) {
			return fmt.Errorf("%w: the header %s is not signed", ErrMismatch, lower)
		}
	}
	return nil
}
