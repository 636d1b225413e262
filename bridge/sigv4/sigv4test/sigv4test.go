// Package sigv4test signs requests as AWS's SDKs do, for the tests of what
// verifies them. It shares no code with package sigv4.
package sigv4test

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"time"
)

// A Key is what requests are signed with.
type Key struct {
	ID, Secret string
	Token      string // session token; "" for none
}

// Sign signs r, with all the headers that it has, at the time given. The path
// must have no dot segments and no empty ones.
func Sign(r *http.Request, body []byte, k Key, region, service string, at time.Time) {
	r.Header.Set("X-Amz-Date", at.UTC().Format("20060102T150405Z"))
	if k.Token != "" {
		r.Header.Set("X-Amz-Security-Token", k.Token)
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("%s\n", r.Method)
	for i, seg := range strings.Split(r.URL.EscapedPath(), "/") {
		if i > 0 {
			p("/")
		}
		p("%s", escape(seg))
	}
	var pairs [][2]string
	for k, vs := range r.URL.Query() {
		for _, v := range vs {
			pairs = append(pairs, [2]string{escape(k), escape(v)})
		}
	}
	sort.Slice(pairs, func(i, j int) bool {
		return pairs[i][0] < pairs[j][0] || pairs[i][0] == pairs[j][0] && pairs[i][1] < pairs[j][1]
	})
	var query []string
	for _, kv := range pairs {
		query = append(query, kv[0]+"="+kv[1])
	}
	p("\n%s\n", strings.Join(query, "&"))
	names := []string{"host"}
	for k := range r.Header {
		names = append(names, strings.ToLower(k))
	}
	sort.Strings(names)
	for _, n := range names {
		if n == "host" {
			p("host:%s\n", r.Host)
		} else {
			p("%s:%s\n", n, strings.Join(r.Header.Values(n), ","))
		}
	}
	p("\n%s\n%x", strings.Join(names, ";"), sha256.Sum256(body))
	date := at.UTC().Format("20060102")
	scope := date + "/" + region + "/" + service + "/aws4_request"
	text := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", r.Header.Get("X-Amz-Date"), scope,
		sha256.Sum256([]byte(b.String())))
	key := []byte("AWS4" + k.Secret)
	for _, s := range []string{date, region, service, "aws4_request", text} {
		m := hmac.New(sha256.New, key)
		_, _ = io.WriteString(m, s)
		key = m.Sum(nil)
	}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", k.ID,
		scope, strings.Join(names, ";"), key))
}

// escape is the URI encoding of signatures, from net/url's.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
