// Package egress says what the bridge reaches on behalf of others: the URLs and
// brokers that rules, delivery streams and functions name, which whoever may write
// those chooses, and not the operator. Loopback and link-local addresses, where
// other services of the machine trust who asks, the metadata services of clouds, and
// the bridge's own ports are refused unless the operator names them.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrRefused says that an address is not to be reached. To ask again does not help.
var ErrRefused = errors.New("egress refused")

// Options of a List.
type Options struct {
	// Allow names what may be reached though it would be refused: hosts such as
	// "hook.example.org" or "*.example.org", addresses, networks such as
	// "10.0.0.0/8", each with a port behind it or not ("127.0.0.1:8086",
	// "[::1]:9092", "10.0.0.0/8:9092"). A host that is named is trusted to mean
	// whatever address it resolves to.
	Allow []string
	// Only refuses all that Allow does not name.
	Only bool
	// Own says whether the bridge itself listens at a port of this machine; nil: at
	// none. It is asked for each connection.
	Own func(port uint16) bool
}

// A List is what may be reached. Several goroutines may use it.
type List struct {
	entries []entry
	only    bool
	own     func(port uint16) bool
	here    func() ([]netip.Addr, error) // addresses of this machine
}

// An entry is one of Options.Allow.
type entry struct {
	host    string       // lower case, "*.example.org" with its star; "" of a network
	network netip.Prefix // of addresses and networks
	port    uint16       // 0: any
}

// New reads o.
func New(o Options) (*List, error) {
	l := &List{only: o.Only, own: o.Own, here: addresses}
	if l.own == nil {
		l.own = func(uint16) bool { return false }
	}
	var errs []error
	for _, text := range o.Allow {
		e, err := parse(text)
		if err != nil {
			errs = append(errs, err)
		}
		l.entries = append(l.entries, e)
	}
	return l, errors.Join(errs...)
}

// Only is what one URL of the operator's names, and nothing else.
func Only(to string) (*List, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		if port = "443"; u.Scheme == "http" {
			port = "80"
		}
	}
	return New(Options{Allow: []string{net.JoinHostPort(u.Hostname(), port)}, Only: true})
}

func parse(text string) (e entry, err error) {
	wrong := func() error {
		return fmt.Errorf("%q: want a host, an address or a network such as 10.0.0.0/8, with or without :PORT", text)
	}
	rest := text
	if at := strings.LastIndexByte(text, ':'); at >= 0 && !bare(text) {
		port, err := strconv.ParseUint(text[at+1:], 10, 16)
		if err != nil || port == 0 {
			return e, wrong()
		}
		rest, e.port = text[:at], uint16(port)
	}
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
	if p, err := netip.ParsePrefix(rest); err == nil {
		e.network = p.Masked()
		return e, nil
	}
	if a, err := netip.ParseAddr(rest); err == nil {
		a = a.Unmap()
		e.network = netip.PrefixFrom(a, a.BitLen())
		return e, nil
	}
	name := strings.TrimPrefix(rest, "*.")
	if name == "" || strings.ContainsAny(name, "*/[]: \t\n") {
		return e, wrong()
	}
	e.host = strings.ToLower(rest)
	return e, nil
}

// bare says whether text is an address or network of IPv6 without a port.
func bare(text string) bool {
	_, err := netip.ParseAddr(text)
	if err != nil {
		_, err = netip.ParsePrefix(text)
	}
	return err == nil || strings.HasSuffix(text, "]")
}

func (e *entry) names(host string, port uint16) bool {
	if e.host == "" || e.port != 0 && e.port != port {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if suffix, ok := strings.CutPrefix(e.host, "*"); ok {
		return strings.HasSuffix(host, suffix)
	}
	return host == e.host
}

func (e *entry) holds(a netip.AddrPort) bool {
	return e.host == "" && (e.port == 0 || e.port == a.Port()) && e.network.Contains(a.Addr())
}

// Dial connects as net.Dialer does, to what may be reached. Who resolves a name
// cannot evade it: the address that is connected to is the one that is judged.
func (l *List) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q, want 1 to 65535", text)
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	if !slices.ContainsFunc(l.entries, func(e entry) bool { return e.names(host, uint16(port)) }) {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return l.judge(netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()))
		}
	}
	c, err := d.DialContext(ctx, network, address)
	if refused := errors.Unwrap(err); errors.Is(refused, ErrRefused) {
		return nil, fmt.Errorf("%s: %w", address, refused) // without the words of a connection that failed
	}
	return c, err
}

// metadata is where clouds tell a machine its secrets, but for link-local addresses:
// EC2 and Google by IPv6 (their guides, "instance metadata" and "metadata server"),
// Alibaba (ECS user guide, "instance metadata"), and Azure's wire server (Microsoft,
// "What is IP address 168.63.129.16?"), a public address that is each machine's own.
var metadata = map[netip.Addr]string{
	netip.MustParseAddr("fd00:ec2::254"):   "the metadata service of EC2",
	netip.MustParseAddr("fd20:ce::254"):    "the metadata service of Google's cloud",
	netip.MustParseAddr("100.100.100.200"): "the metadata service of Alibaba's cloud",
	netip.MustParseAddr("168.63.129.16"):   "the wire server of Azure",
}

// judge returns an error if an address is not to be reached.
func (l *List) judge(a netip.AddrPort) error {
	if slices.ContainsFunc(l.entries, func(e entry) bool { return e.holds(a) }) {
		return nil
	}
	ip, what := a.Addr(), ""
	switch {
	case l.only:
		what = "egress.only is set, and egress.allow does not name it"
	case ip.IsLoopback():
		what = "a loopback address"
	case metadata[ip] != "":
		what = metadata[ip]
	case ip.IsLinkLocalUnicast(), ip.IsLinkLocalMulticast(), ip.IsInterfaceLocalMulticast():
		what = "a link-local address"
	case ip.IsUnspecified(), ip.IsMulticast():
		what = "no address of one machine"
	case l.own(a.Port()):
		here, err := l.here()
		if err != nil {
			return err
		}
		if !slices.Contains(here, ip) {
			return nil
		}
		what = "a port of the bridge itself"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s is %s; egress.allow in the bridge's configuration lets it be reached",
		ErrRefused, a, what)
}

func addresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var here []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			here = append(here, p.Addr().Unmap())
		}
	}
	return here, nil
}

// Client returns an HTTP client that reaches what may be reached, follows no
// redirect and takes no proxy of the environment. Its owner closes its idle
// connections.
func (l *List) Client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: l.Dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
