package sigv4

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// signed is what a request says of its signature.
type signed struct {
	keyID, date, region, service string // the credential scope
	headers                      []string
	signature                    string // 64 hexadecimal digits
	token                        string // session token, "" if there is none
	time                         time.Time
	presigned                    bool
	expires                      time.Duration // of a presigned request; 0: not said
	query                        []pair        // without the signature
}

// A pair is a decoded name and value of the query.
type pair struct{ name, value string }

// parse reads the signature's parts from the Authorization header or the
// query.
func parse(r *http.Request) (*signed, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	s := &signed{query: query}
	// As AWS: other members of the query by themselves are no signature.
	_, s.presigned = lookup(query, "X-Amz-Algorithm")
	auth := r.Header["Authorization"]
	switch {
	case s.presigned && len(auth) > 0:
		return nil, ErrBoth
	case len(auth) > 1:
		return nil, fmt.Errorf("%w: want one header Authorization", ErrIncomplete)
	case s.presigned:
		err = s.fromQuery()
	case len(auth) == 1:
		err = s.fromHeaders(auth[0], r.Header)
	default:
		err = ErrMissing
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// incompleteError is ErrIncomplete with AWS's text, which lists all that is not there.
type incompleteError string

func (l incompleteError) Error() string { return string(l) }

// Is makes it an ErrIncomplete.
func (incompleteError) Is(target error) bool { return target == ErrIncomplete }

func (s *signed) fromHeaders(auth string, h http.Header) error {
	if len(auth) > maxAuthorization {
		return fmt.Errorf("%w: Authorization: %d bytes, want at most %d", ErrIncomplete, len(auth), maxAuthorization)
	}
	parts, twice := map[string]string{}, false
	scheme, rest, _ := strings.Cut(auth, " ")
	for _, part := range strings.FieldsFunc(rest, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(part, "=")
		_, again := parts[name]
		twice = twice || again
		parts[name] = value
	}
	var lacks string // in AWS's words, all at once
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[name] == "" {
			lacks += "Authorization header requires '" + name + "' parameter. "
		}
	}
	if h["X-Amz-Date"] == nil && h["Date"] == nil {
		lacks += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
	}
	switch {
	case lacks != "":
		return incompleteError(lacks + "Authorization=" + auth)
	case scheme != algorithm || twice || len(parts) > 3:
		return fmt.Errorf("%w: Authorization: want %s Credential=…, SignedHeaders=…, Signature=…", ErrIncomplete,
			algorithm)
	}
	date, err := requestTime(h)
	if err != nil {
		return err
	}
	s.time = date
	tokens := h["X-Amz-Security-Token"]
	if len(tokens) > 1 {
		return fmt.Errorf("%w: X-Amz-Security-Token is given twice", ErrIncomplete)
	}
	s.token = strings.Join(tokens, "")
	return s.set(parts["Credential"], parts["SignedHeaders"], parts["Signature"])
}

// requestTime reads X-Amz-Date, or Date where that is not given.
func requestTime(h http.Header) (time.Time, error) {
	name, formats := "X-Amz-Date", []string{timeFormat}
	if h[name] == nil {
		name, formats = "Date", []string{http.TimeFormat, time.RFC1123Z, timeFormat}
	}
	values := h[name]
	if len(values) != 1 {
		return time.Time{}, fmt.Errorf("%w: want one header X-Amz-Date or Date", ErrIncomplete)
	}
	for _, f := range formats {
		if t, err := time.Parse(f, values[0]); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: %s: %.40q is no time such as 20060102T150405Z", ErrIncomplete, name, values[0])
}

func (s *signed) fromQuery() error {
	get := map[string]string{}
	for _, p := range s.query {
		if !strings.HasPrefix(p.name, "X-Amz-") {
			continue
		}
		if _, twice := get[p.name]; twice {
			return fmt.Errorf("%w: %.60q is given twice", ErrIncomplete, p.name)
		}
		get[p.name] = p.value
	}
	var lacks string
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders",
		"X-Amz-Date"} {
		if get[name] == "" {
			lacks += "AWS query-string parameters must include '" + name + "'. "
		}
	}
	if lacks != "" {
		return incompleteError(lacks + "Re-examine the query-string parameters.")
	}
	if get["X-Amz-Algorithm"] != algorithm {
		return fmt.Errorf("%w: X-Amz-Algorithm: want %s", ErrIncomplete, algorithm)
	}
	var err error
	if s.time, err = time.Parse(timeFormat, get["X-Amz-Date"]); err != nil {
		return fmt.Errorf("%w: X-Amz-Date: want a time such as 20060102T150405Z", ErrIncomplete)
	}
	if text, ok := get["X-Amz-Expires"]; ok {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 0 || time.Duration(n)*time.Second > maxExpiry {
			return fmt.Errorf("%w: X-Amz-Expires: want 1 to 604800 seconds", ErrIncomplete)
		}
		s.expires = time.Duration(n) * time.Second
	}
	s.token = get["X-Amz-Security-Token"]
	s.query = slices.DeleteFunc(s.query, func(p pair) bool { return p.name == "X-Amz-Signature" })
	return s.set(get["X-Amz-Credential"], get["X-Amz-SignedHeaders"], get["X-Amz-Signature"])
}

// set takes the three parts that header and query have in common.
func (s *signed) set(credential, headers, signature string) error {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[4] != terminator || slices.Contains(scope, "") || len(credential) > 512 {
		return fmt.Errorf("%w: Credential: want KEY/YYYYMMDD/REGION/SERVICE/%s", ErrIncomplete, terminator)
	}
	s.keyID, s.date, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
	if strings.Trim(s.region+s.service, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("%w: Credential: want a region and a service of a-z 0-9 -", ErrIncomplete)
	}
	if strings.Count(headers, ";") >= maxSignedHeaders {
		return fmt.Errorf("%w: SignedHeaders: more than %d", ErrIncomplete, maxSignedHeaders)
	}
	s.headers = strings.Split(headers, ";")
	for i, name := range s.headers {
		if name == "" || name != strings.ToLower(name) || i > 0 && name <= s.headers[i-1] {
			return fmt.Errorf("%w: SignedHeaders: want lower-case names in order, between semicolons", ErrIncomplete)
		}
	}
	if len(signature) != 64 || strings.Trim(signature, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: Signature: want 64 digits of 0-9 a-f", ErrIncomplete)
	}
	s.signature = signature
	return nil
}

// target splits the request's target, as it was sent, at its question mark.
func target(r *http.Request) (path, query string, err error) {
	all := r.RequestURI
	if !strings.HasPrefix(all, "/") {
		return "", "", fmt.Errorf("%w: the request target must begin with a slash", ErrIncomplete)
	}
	path, query, _ = strings.Cut(all, "?")
	return path, query, nil
}

// parseQuery decodes the query as url.ParseQuery does, keeping the order. What
// that would leave out is an error, since a handler would not see it.
func parseQuery(r *http.Request) ([]pair, error) {
	_, raw, err := target(r)
	if err != nil || raw == "" {
		return nil, err
	}
	var all []pair
	for text := range strings.SplitSeq(raw, "&") {
		if text == "" {
			continue
		}
		k, v, _ := strings.Cut(text, "=")
		name, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil || strings.Contains(text, ";") {
			return nil, fmt.Errorf("%w: the query is not well encoded", ErrIncomplete)
		}
		all = append(all, pair{name, value})
	}
	return all, nil
}

func lookup(query []pair, name string) (string, bool) {
	i := slices.IndexFunc(query, func(p pair) bool { return p.name == name })
	if i < 0 {
		return "", false
	}
	return query[i].value, true
}
