package listen

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

// hosts are the names by which the bridge is asked. A page of a browser can have
// its own name resolve to this machine (DNS rebinding) and then ask what only
// this machine may reach; its requests have that name as their Host.
type hosts struct{ names []string }

// newHosts returns a hosts with the names of the configuration beside those of
// this machine.
func newHosts(names []string) hosts {
	h := hosts{append([]string{"localhost", "*.localhost"}, names...)}
	if name, err := os.Hostname(); err == nil {
		h.names = append(h.names, name)
	}
	return h
}

// has says whether host, perhaps with a port, is an address or one of the names.
func (h hosts) has(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, n := range h.names {
		if _, rest, _ := strings.Cut(host, "."); strings.EqualFold(n, host) || strings.HasPrefix(n, "*.") &&
			strings.EqualFold(n[2:], rest) {
			return true
		}
	}
	return false
}

// OnlyKnownHosts passes on what is asked by an address, one of names, which are
// those of the configuration, or one of this machine's, and from no page of
// another site.
func OnlyKnownHosts(names []string, next http.Handler) http.Handler {
	h := newHosts(names)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.has(r.Host) {
			http.Error(w, "Host: ask by an address, localhost, or a name of mqtt.server_names",
				http.StatusMisdirectedRequest)
			return
		}
		for _, origin := range r.Header["Origin"] {
			if !ownOrigin(r, origin) && !localPage(origin) {
				http.Error(w, "Origin: pages of other sites may not ask", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// localPage says whether origin is of a page that this machine serves, on
// whatever port.
func localPage(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.User == nil && localhost(u.Hostname())
}

// localhost says whether a name or address is this machine's alone.
func localhost(name string) bool {
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback() || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// SameOrigin says whether r is of no browser, or of one whose page is from this
// listener: a certificate is shown whatever page asks for it.
func SameOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	return len(origins) == 0 || len(origins) == 1 && ownOrigin(r, origins[0])
}

// ownOrigin says whether origin is where r was sent to. A browser sends scheme,
// host and port and nothing else (RFC 6454, 6.2), so the texts are compared: a
// page over plain HTTP may be anybody's on the way, and is another origin.
func ownOrigin(r *http.Request, origin string) bool {
	scheme := "https://"
	if r.TLS == nil {
		scheme = "http://"
	}
	return strings.EqualFold(origin, scheme+r.Host)
}
