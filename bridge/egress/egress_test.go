package egress

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, text := range []string{"", ":80", "host:0", "host:70000", "host:http", "*", "*.", "a*b", "http://host/", "a b",
		"10.0.0.0/33", "[::1", "a:b:c"} {
		if _, err := New(Options{Allow: []string{text}}); err == nil || !strings.Contains(err.Error(), "want a host") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestJudge(t *testing.T) {
	here := netip.MustParseAddr("192.0.2.7")
	own := func(port uint16) bool { return port == 8883 }
	for _, c := range []struct {
		allow   string // with spaces between
		only    bool
		address string
		reached bool
	}{
		{"", false, "198.51.100.1:443", true},
		{"", false, "10.1.2.3:443", true},
		{"", false, "127.0.0.1:80", false},
		{"", false, "127.9.9.9:80", false},
		{"", false, "[::1]:80", false},
		{"", false, "169.254.169.254:80", false},
		{"", false, "[fe80::1]:80", false},
		{"", false, "[fd00:ec2::254]:80", false},
		{"", false, "[fd20:ce::254]:80", false},
		{"", false, "100.100.100.200:80", false},
		{"", false, "100.100.100.201:80", true},
		{"", false, "168.63.129.16:32526", false},
		{"168.63.129.16", false, "168.63.129.16:80", true},
		{"", false, "0.0.0.0:80", false},
		{"", false, "[::]:80", false},
		{"", false, "224.0.0.1:80", false},
		{"", false, "192.0.2.7:8883", false}, // own
		{"", false, "192.0.2.7:8884", true},
		{"", false, "192.0.2.8:8883", true}, // another machine's
		{"192.0.2.7:8883", false, "192.0.2.7:8883", true},
		{"127.0.0.1", false, "127.0.0.1:80", true},
		{"127.0.0.1:81", false, "127.0.0.1:80", false},
		{"127.0.0.1:81", false, "127.0.0.1:81", true},
		{"[::1]:81", false, "[::1]:81", true},
		{"::1", false, "[::1]:81", true},
		{"127.0.0.0/8:81", false, "127.3.0.1:81", true},
		{"fe80::/10", false, "[fe80::1]:80", true},
		{"", true, "198.51.100.1:443", false},
		{"198.51.100.0/24", true, "198.51.100.1:443", true},
		{"hook.example.org", true, "198.51.100.1:443", false}, // by its name alone
	} {
		l, err := New(Options{Allow: strings.Fields(c.allow), Only: c.only, Own: own})
		if err != nil {
			t.Fatal(err)
		}
		l.here = func() ([]netip.Addr, error) { return []netip.Addr{here}, nil }
		err = l.judge(netip.MustParseAddrPort(c.address))
		if (err == nil) != c.reached || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("allow %q, only %v: %s: %v", c.allow, c.only, c.address, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		entry, host string
		port        uint16
		ok          bool
	}{
		{"hook.example.org", "hook.example.org", 443, true},
		{"hook.example.org", "HOOK.example.org.", 443, true},
		{"hook.example.org:80", "hook.example.org", 443, false},
		{"*.example.org", "a.b.example.org", 443, true},
		{"*.example.org", "example.org", 443, false},
		{"*.example.org", "badexample.org", 443, false},
		{"10.0.0.1", "10.0.0.1", 443, false}, // by its address
	} {
		e, err := parse(c.entry)
		if err != nil || e.names(c.host, c.port) != c.ok {
			t.Errorf("%s names %s:%d: %v, %v", c.entry, c.host, c.port, !c.ok, err)
		}
	}
}

// A name that resolves to loopback is refused as the address is, unless it is named.
func TestClient(t *testing.T) {
	moved := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if moved++; r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusFound)
		}
	}))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, c := range []struct {
		allow []string
		host  string
		ok    bool
	}{
		{nil, "127.0.0.1", false},
		{nil, "localhost", false},
		{[]string{"localhost:" + port}, "localhost", true},
		{[]string{"localhost:1"}, "localhost", false},
		{[]string{"127.0.0.1"}, "127.0.0.1", true},
	} {
		l, err := New(Options{Allow: c.allow})
		if err != nil {
			t.Fatal(err)
		}
		client := l.Client()
		defer client.CloseIdleConnections()
		moved = 0
		resp, err := client.Get("http://" + net.JoinHostPort(c.host, port) + "/moved")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusFound || moved != 1 {
				t.Errorf("%s: %s after %d requests: a redirect was followed", c.host, resp.Status, moved)
			}
		}
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%v: %s: %v", c.allow, c.host, err)
		}
	}
}

func TestOnly(t *testing.T) {
	for url, want := range map[string]string{"http://127.0.0.1:9093/am": "127.0.0.1:9093", "https://[::1]": "[::1]:443",
		"http://am.example.org": "am.example.org:80"} {
		l, err := Only(url)
		if err != nil || !l.only || len(l.entries) != 1 {
			t.Fatalf("%s: %+v, %v", url, l, err)
		}
		e := l.entries[0]
		a, err := netip.ParseAddrPort(want)
		if host, _, _ := net.SplitHostPort(want); err == nil && !e.holds(a) || err != nil && !e.names(host, e.port) {
			t.Errorf("%s: %+v", url, e)
		}
		if err := l.judge(netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
			t.Error("another port is reached")
		}
	}
}
