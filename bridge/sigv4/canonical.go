package sigv4

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// canonicalRequests returns the texts that the client may have signed. There
// are two for a presigned request with a session token: AWS IoT's devices add
// the token to the query after they signed it.
func (s *signed) canonicalRequests(r *http.Request, payload string) ([]string, error) {
	path, err := s.path(r)
	if err != nil {
		return nil, err
	}
	headers, err := s.canonicalHeaders(r)
	if err != nil {
		return nil, err
	}
	join := func(query []pair) string {
		return strings.Join([]string{r.Method, path, canonicalQuery(query), headers, strings.Join(s.headers, ";"),
			payload}, "\n")
	}
	all := []string{join(s.query)}
	if s.presigned && s.token != "" {
		all = append(all, join(slices.DeleteFunc(slices.Clone(s.query), func(p pair) bool {
			return p.name == "X-Amz-Security-Token"
		})))
	}
	return all, nil
}

// path returns the canonical path: normalized and encoded once more than it
// was sent; for S3 not normalized, and encoded once.
func (s *signed) path(r *http.Request) (string, error) {
	raw, _, err := target(r)
	if err != nil {
		return "", err
	}
	if s.service != s3 {
		return encode(normalize(raw), true), nil
	}
	plain, err := url.PathUnescape(raw)
	if err != nil {
		return "", fmt.Errorf("%w: the path is not well encoded", ErrIncomplete)
	}
	return encode(plain, true), nil
}

// normalize removes dot segments and repeated slashes, and keeps a last slash.
func normalize(path string) string {
	var kept []string
	segments := strings.Split(path, "/")
	for _, seg := range segments {
		switch seg {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, seg)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if len(kept) > 0 && segments[len(segments)-1] == "" {
		out += "/"
	}
	return out
}

// canonicalQuery sorts by name and then value, both encoded.
func canonicalQuery(query []pair) string {
	encoded := make([]pair, len(query))
	for i, p := range query {
		encoded[i] = pair{encode(p.name, false), encode(p.value, false)}
	}
	slices.SortFunc(encoded, func(a, b pair) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	var b strings.Builder
	for i, p := range encoded {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String()
}

// canonicalHeaders returns a line for each signed header: name:value, values
// of one name joined by commas, runs of white space made one space.
func (s *signed) canonicalHeaders(r *http.Request) (string, error) {
	var b strings.Builder
	for _, name := range s.headers {
		values := r.Header[http.CanonicalHeaderKey(name)]
		switch {
		case name == "host", name == ":authority" && r.ProtoMajor >= 2:
			values = []string{r.Host} // net/http takes it out of the headers
		case name == "content-length" && values == nil && r.ContentLength >= 0:
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		case name == "transfer-encoding" && values == nil:
			values = r.TransferEncoding // likewise
		}
		if values == nil {
			return "", fmt.Errorf("%w: the signed header %.60q is not there", ErrMismatch, name)
		}
		b.WriteString(name)
		for i, v := range values {
			b.WriteByte(":,"[min(i, 1)])
			b.WriteString(strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == '\t' }), " "))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// encode writes all but RFC 3986's unreserved characters as %XY; a slash stays
// where the text is a path.
func encode(text string, path bool) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0 ||
			c == '/' && path {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
