package sigv4

import (
	"bufio"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

var (
	deviceKey = sigv4test.Key{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		Token: "AQo//token+of=a/session=="}
	deviceNow = time.Date(2026, 11, 20, 23, 58, 0, 0, time.UTC)
)

func deviceVerifier(k sigv4test.Key, now time.Time) *Verifier {
	return &Verifier{
		Secret: func(id string) (string, string, bool) { return k.Secret, k.Token, id == k.ID },
		Now:    func() time.Time { return now },
	}
}

// upgradeRequest is the request of a device, as a server reads it.
func upgradeRequest(t testing.TB, query, host string, headers ...string) *http.Request {
	t.Helper()
	text := "GET /mqtt?" + query + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		strings.Join(append(headers, "\r\n"), "\r\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What the SDKs sign is verified, with a session token and without, and to the
// last moment that it is good for.
func TestWebSocketForms(t *testing.T) {
	for _, f := range sigv4test.Forms {
		for _, token := range []string{"", deviceKey.Token} {
			k := deviceKey
			k.Token = token
			host := "bridge.example"
			if f.Port {
				host += ":8443"
			}
			query := f.Query(host, k, "eu-west-1", deviceNow)
			life := 5 * time.Minute
			if f.Expires == "86400" {
				life = 24 * time.Hour
			}
			for _, c := range []struct {
				at time.Duration
				ok bool
			}{{0, true}, {life, true}, {life + time.Second, false}, {-5 * time.Minute, true},
				{-5*time.Minute - time.Second, false}} {
				id, err := deviceVerifier(k, deviceNow.Add(c.at)).VerifyWebSocket(upgradeRequest(t, query, host))
				if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrTime) {
					t.Errorf("%s, token %q, after %v: %v", f.Name, token, c.at, err)
				}
				if want := (Identity{k.ID, "eu-west-1", f.Service}); id != want {
					t.Errorf("%s: %+v, want %+v", f.Name, id, want)
				}
			}
		}
	}
}

// The order of the pairs is the client's; a proxy may leave the Connection as a
// list.
func TestWebSocketOrder(t *testing.T) {
	query := sigv4test.Version2.Query("h", deviceKey, "r", deviceNow)
	pairs := strings.Split(query, "&")
	for i := range pairs {
		turned := strings.Join(append(append([]string(nil), pairs[i:]...), pairs[:i]...), "&")
		if _, err := deviceVerifier(deviceKey, deviceNow).VerifyWebSocket(upgradeRequest(t, turned, "h")); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// No part of a request can be changed, left out or put in.
func TestWebSocketBypass(t *testing.T) {
	k := deviceKey
	other := sigv4test.Key{ID: "AKIAOTHER", Secret: "other"}
	for _, f := range sigv4test.Forms {
		good := f.Query("h", k, "eu-west-1", deviceNow)
		signature := good[strings.Index(good, "X-Amz-Signature=")+len("X-Amz-Signature="):][:64]
		if f.Expires == "" {
			good = "X-Amz-Expires=1000&" + good // not signed
		}
		for _, c := range []struct {
			name     string
			old, new string // in the query
			host     string
			method   string
			header   string
			path     string
			now      time.Duration
			want     error
		}{
			{name: "date of the credential", old: "%2F20261120%2F", new: "%2F20261121%2F", want: ErrMismatch},
			{name: "later date", old: "X-Amz-Date=20261120T235800Z", new: "X-Amz-Date=20261121T000000Z",
				want: ErrMismatch},
			{name: "date with a scope that fits", old: "20261120", new: "20261121", now: 24 * time.Hour,
				want: ErrMismatch},
			{name: "longer life", old: "X-Amz-Expires=", new: "X-Amz-Expires=1", now: 30 * time.Hour, want: nil},
			{name: "replay when its time is over", now: 25 * time.Hour, want: ErrTime},
			{name: "other host", host: "other.example", want: ErrMismatch},
			{name: "host with a port put to it", host: "h:8443", want: ErrMismatch},
			{name: "other region", old: "eu-west-1", new: "us-east-1", want: ErrMismatch},
			{name: "other service", old: "%2Fiot", new: "%2Fiotx", want: ErrMismatch},
			{name: "service of the APIs", old: "%2F" + f.Service + "%2F", new: "%2Fiot%2F", want: ErrMismatch},
			{name: "unknown key", old: k.ID, new: other.ID, want: ErrUnknownKey},
			{name: "other signature", old: signature, new: strings.Repeat("0", 64), want: ErrMismatch},
			{name: "no signature", old: "X-Amz-Signature=" + signature, new: "", want: ErrIncomplete},
			{name: "empty signature", old: signature, new: "", want: ErrIncomplete},
			{name: "signature in capitals", old: signature, new: strings.ToUpper(signature), want: nil},
			{name: "no algorithm", old: "X-Amz-Algorithm=AWS4-HMAC-SHA256", new: "", want: ErrMissing},
			{name: "other algorithm", old: "HMAC-SHA256", new: "HMAC-SHA1", want: ErrIncomplete},
			{name: "less is signed", old: "X-Amz-SignedHeaders=", new: "X-Amz-SignedHeaders=x&x=", want: ErrMismatch},
			{name: "without host", old: "host", new: "connection", want: nil},
			{name: "no signed headers", old: "X-Amz-SignedHeaders", new: "y", want: ErrIncomplete},
			{name: "a pair more", old: "X-Amz-Date", new: "client=x&X-Amz-Date", want: ErrMismatch},
			{name: "a pair twice", old: "X-Amz-Date", new: "X-Amz-Date=20261120T235800Z&X-Amz-Date",
				want: ErrIncomplete},
			{name: "bad escape", old: "X-Amz-Date", new: "%zz&X-Amz-Date", want: ErrIncomplete},
			{name: "no token", old: "X-Amz-Security-Token=", new: "x=", want: nil},
			{name: "another token", old: "X-Amz-Security-Token=", new: "X-Amz-Security-Token=1", want: nil},
			{name: "unsigned header of AWS's", header: "X-Amz-Mqtt5-User: x", want: ErrMismatch},
			{name: "header too", header: "Authorization: AWS4-HMAC-SHA256 x", want: ErrBoth},
			{name: "POST", method: "POST", want: ErrIncomplete},
			{name: "other path", path: "/mqtt/", want: ErrIncomplete},
			{name: "escaped path", path: "/%6dqtt", want: ErrIncomplete},
			{name: "path with dots", path: "/x/../mqtt", want: ErrIncomplete},
			{name: "path of an API", path: "/rules", want: ErrIncomplete},
		} {
			query := good
			if c.old != "" {
				if query = strings.ReplaceAll(good, c.old, c.new); query == good {
					t.Fatalf("%s: %s: nothing was changed in %s", f.Name, c.name, good)
				}
			}
			host := "h"
			if c.host != "" {
				host = c.host
			}
			var headers []string
			if c.header != "" {
				headers = append(headers, c.header)
			}
			r := upgradeRequest(t, query, host, headers...)
			if c.method != "" {
				r.Method = c.method
			}
			if c.path != "" {
				r.RequestURI = c.path + "?" + query
			}
			_, err := deviceVerifier(k, deviceNow.Add(c.now)).VerifyWebSocket(r)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: %s: %v, want %v", f.Name, c.name, err, c.want)
			}
		}
		if _, err := deviceVerifier(sigv4test.Key{ID: k.ID, Secret: "wrong", Token: k.Token},
			deviceNow).VerifyWebSocket(upgradeRequest(t, f.Query("h", k, "r", deviceNow), "h")); !errors.Is(err,
			ErrMismatch) {
			t.Errorf("%s: wrong secret: %v", f.Name, err)
		}
	}
	// Connection is signed by version 2 as it was sent.
	r := upgradeRequest(t, sigv4test.Version2.Query("h", k, "r", deviceNow), "h")
	for _, lines := range [][]string{{"keep-alive, Upgrade"}, {"upgrade"}, {"Upgrade", "close"}, nil} {
		r.Header["Connection"] = lines
		if _, err := deviceVerifier(k, deviceNow).VerifyWebSocket(r); !errors.Is(err, ErrMismatch) {
			t.Errorf("Connection %q: %v", lines, err)
		}
	}
	apis := sigv4test.Python1
	apis.Service = "iot"
	if _, err := deviceVerifier(k, deviceNow).VerifyWebSocket(upgradeRequest(t, apis.Query("h", k, "r", deviceNow),
		"h")); !errors.Is(err, ErrMismatch) {
		t.Errorf("signed well for another service: %v", err)
	}
	week := sigv4test.Python1
	week.Expires = "604800"
	if _, err := deviceVerifier(k, deviceNow).VerifyWebSocket(upgradeRequest(t, week.Query("h", k, "r", deviceNow),
		"h")); !errors.Is(err, ErrIncomplete) {
		t.Errorf("good for a week: %v", err)
	}
	bare := upgradeRequest(t, "", "h")
	if _, err := deviceVerifier(k, deviceNow).VerifyWebSocket(bare); !errors.Is(err, ErrMissing) {
		t.Errorf("no query: %v", err)
	}
	sigv4test.Sign(bare, nil, k, "r", "iotdata", deviceNow)
	if _, err := deviceVerifier(k, deviceNow).VerifyWebSocket(bare); !errors.Is(err, ErrMissing) {
		t.Errorf("in a header: %v", err)
	}
}

// The parser of queries never takes what was changed: only a query that has the
// pairs of the signed one, in any order and with the token, is let through.
func FuzzWebSocketQuery(f *testing.F) {
	good := map[string]bool{}
	for _, form := range sigv4test.Forms {
		q := form.Query("h", deviceKey, "eu-west-1", deviceNow)
		good[q] = true
		f.Add(q, "h")
		f.Add(strings.Replace(q, "X-Amz-Date", "X-Amz-Date=1&X-Amz-Date", 1), "h")
	}
	pairs := func(q string) string {
		var b strings.Builder
		r := &http.Request{RequestURI: "/mqtt?" + q}
		all, err := parseQuery(r)
		if err != nil {
			return "not parsed"
		}
		b.WriteString(canonicalQuery(all))
		return b.String()
	}
	accepted := map[string]bool{}
	for q := range good {
		accepted[pairs(q)] = true
	}
	f.Fuzz(func(t *testing.T, query, host string) {
		r := &http.Request{Method: "GET", RequestURI: "/mqtt?" + query, Host: host, ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Connection": {"Upgrade"}}}
		if _, err := deviceVerifier(deviceKey, deviceNow).VerifyWebSocket(r); err == nil &&
			(!accepted[pairs(query)] || host != "h") {
			t.Fatalf("let through: %q %q", query, host)
		}
	})
}
