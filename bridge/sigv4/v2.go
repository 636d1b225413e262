package sigv4

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// signedV2 is what a request says of a signature of version 2 in its query: S3's
// own, which AWS's SDK for Python makes by default of URLs for an endpoint that
// is not AWS's.
type signedV2 struct {
	keyID, signature, token string
	expires                 string // seconds since 1970
	query                   []pair
}

// subresources are the names of the query that are signed (S3 user guide,
// "Signing and authenticating REST requests (AWS signature version 2)", and
// botocore 1.44's list).
var subresources = map[string]bool{}

func init() {
	for name := range strings.FieldsSeq("accelerate acl analytics cors defaultObjectAcl delete encryption inventory " +
		"lifecycle location logging metrics notification object-lock partNumber policy replication requestPayment " +
		"response-cache-control response-content-disposition response-content-encoding response-content-language " +
		"response-content-type response-expires restore select select-type storageClass tagging torrent uploadId " +
		"uploads versionId versioning versions website") {
		subresources[name] = true
	}
}

// IsV2 says whether a request's query, as it was sent, has a signature of
// version 2.
func IsV2(r *http.Request) bool {
	query, err := parseQuery(r)
	if err != nil {
		return false
	}
	_, ok := lookup(query, "AWSAccessKeyId")
	return ok
}

// parseV2 reads the signature's parts; nil for a request without.
func parseV2(r *http.Request) (*signedV2, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	if _, ok := lookup(query, "AWSAccessKeyId"); !ok {
		return nil, nil
	}
	get := map[string]string{}
	for _, p := range query {
		if _, twice := get[p.name]; twice {
			return nil, fmt.Errorf("%w: %.60q is given twice", ErrIncomplete, p.name)
		}
		get[p.name] = p.value
	}
	s := &signedV2{get["AWSAccessKeyId"], get["Signature"], get["x-amz-security-token"], get["Expires"], query}
	switch {
	case s.keyID == "" || s.signature == "" || s.expires == "":
		return nil, incompleteError("Query-string authentication requires the Signature, Expires and " +
			"AWSAccessKeyId parameters")
	case r.Header["Authorization"] != nil || get["X-Amz-Algorithm"] != "":
		return nil, ErrBoth
	}
	return s, nil
}

// beginV2 is Begin for a signature of version 2.
func (v *Verifier) beginV2(r *http.Request, s *signedV2, now time.Time) (*Signature, Identity, error) {
	id := Identity{s.keyID, v.Region, "s3"}
	sig := &Signature{v: v, r: r, v2: s}
	if v.Permissive {
		return sig, id, nil
	}
	n, err := strconv.ParseInt(s.expires, 10, 64)
	switch {
	case err != nil:
		return nil, id, fmt.Errorf("%w: Expires: want seconds since 1970", ErrIncomplete)
	case time.Unix(n, 0).Before(now):
		return nil, id, ErrExpired
	case time.Unix(n, 0).After(now.Add(maxExpiry + maxSkew)):
		return nil, id, fmt.Errorf("%w: Expires: want at most 604800 seconds from now", ErrIncomplete)
	}
	known := false
	if sig.secret, sig.token, known = v.Secret(s.keyID); !known {
		return nil, id, ErrUnknownKey
	}
	return sig, id, nil
}

// checkV2 verifies the signature. The body is no part of it.
func (sig *Signature) checkV2() error {
	if sig.v.Permissive {
		return nil
	}
	text, err := sig.v2.stringToSign(sig.r)
	if err != nil {
		return err
	}
	h := hmac.New(sha1.New, []byte(sig.secret))
	h.Write([]byte(text))
	want := base64.StdEncoding.EncodeToString(h.Sum(nil))
	sameToken := subtle.ConstantTimeCompare([]byte(sig.token), []byte(sig.v2.token))
	switch {
	case subtle.ConstantTimeCompare([]byte(want), []byte(sig.v2.signature)) == 0:
		return ErrMismatch
	case sameToken == 0:
		return ErrUnknownKey
	}
	return nil
}

func (s *signedV2) stringToSign(r *http.Request) (string, error) {
	path, _, err := target(r)
	if err != nil {
		return "", err
	}
	amz := map[string]string{}
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			amz[name] = strings.Join(values, ",")
		}
	}
	var resources []string
	for _, p := range s.query {
		if strings.HasPrefix(p.name, "x-amz-") && amz[p.name] == "" { // moved here by who signed
			amz[p.name] = p.value
		}
		if subresources[p.name] {
			name := p.name
			if p.value != "" {
				name += "=" + p.value
			}
			resources = append(resources, name)
		}
	}
	lines := []string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), s.expires}
	var headers []string
	for name, value := range amz {
		headers = append(headers, name+":"+strings.TrimSpace(value))
	}
	slices.Sort(headers)
	slices.Sort(resources)
	if len(resources) > 0 {
		path += "?" + strings.Join(resources, "&")
	}
	return strings.Join(append(append(lines, headers...), path), "\n"), nil
}
