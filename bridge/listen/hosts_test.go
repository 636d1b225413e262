package listen

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A page that has its own name resolve to this machine is refused, and so is one of
// another site; what the bridge itself serves is not.
func TestOnlyKnownHosts(t *testing.T) {
	h := OnlyKnownHosts([]string{"bridge.example.org", "*.plant.example"},
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, c := range []struct {
		host, origin string
		want         int
	}{
		{"127.0.0.1:8081", "", 200},
		{"[::1]:8081", "", 200},
		{"localhost", "", 200},
		{"Bridge.Example.org.", "", 200},
		{"a.plant.example:1", "", 200},
		{"a.b.plant.example", "", 421},
		{"plant.example", "", 421},
		{"evil.example", "", 421},
		{"127.0.0.1.evil.example", "", 421},
		{"localhost:1", "http://localhost:3000", 200},
		{"bridge.example.org", "http://bridge.example.org", 200},
		{"bridge.example.org", "https://bridge.example.org", 403}, // it was asked without TLS
		{"bridge.example.org", "https://evil.example", 403},
		{"localhost", "null", 403},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if r.Host = c.host; c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s from %q: %d, want %d", c.host, c.origin, w.Code, c.want)
		}
	}
}
