// Package admission bounds the open connections of a listener: all of them,
// those of one address, and those of clients that are not authenticated yet. Whoever may
// reach a port can open connections to it, so those that were not authenticated
// must never keep out others: when there are too many, the ones that have had
// time enough are closed for newcomers, beginning with the address that has
// most of them, and there with those that have said nothing.
package admission

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// How long a connection that is not authenticated is not closed for another.
// The time is a tenth where its address has more such connections than the
// newcomer's would have: it takes as many addresses as there are slots to
// keep another out.
const (
	// Grace is for who has said something. A TLS handshake and the first packet
	// or request take far less, also when thousands of devices come back at once
	// (790 handshakes a second on two cores).
	Grace = 5 * time.Second
	// SilentGrace is for who has not: a client's first bytes come with the end of
	// TCP's handshake, or when they are lost once, a second later at most
	// (RFC 6298, section 2).
	SilentGrace = time.Second
)

// Limits of a Limiter. Each 0 is none.
type Limits struct {
	Open            int // connections
	PerAddress      int // of one address, see AddressOf
	Unauthenticated int // of clients that are not authenticated yet
	// UnauthenticatedPerAddress are those of one address.
	UnauthenticatedPerAddress int
}

// A Limiter counts connections in and out. Several goroutines may use it.
type Limiter struct {
	limits           Limits
	refused, evicted atomic.Uint64

	mu              sync.Mutex // guards what follows
	open            int
	pending         int
	addresses       map[netip.Addr]int              // connections of each
	unauthenticated map[netip.Addr]*unauthenticated // by address; none is empty
	freed           chan struct{}                   // closed when a slot is released; nil: nobody waits for one
}

// An unauthenticated holds the slots of one address whose clients are not
// authenticated, as *Slot, the oldest first.
type unauthenticated struct{ silent, spoke list.List }

// of is the list that p belongs to.
func (s *unauthenticated) of(p *Slot) *list.List {
	if p.spoke {
		return &s.spoke
	}
	return &s.silent
}

func (s *unauthenticated) number() int { return s.silent.Len() + s.spoke.Len() }

// first is the slot whose connection is closed first.
func (s *unauthenticated) first() *Slot {
	l := &s.silent
	if l.Len() == 0 {
		l = &s.spoke
	}
	return l.Front().Value.(*Slot)
}

// NewLimiter returns a Limiter that counts no connection yet.
func NewLimiter(l Limits) *Limiter {
	return &Limiter{limits: l, addresses: map[netip.Addr]int{}, unauthenticated: map[netip.Addr]*unauthenticated{}}
}

// A Slot is what one open connection takes up. Its client is not authenticated at
// first.
type Slot struct {
	limiter  *Limiter
	address  netip.Addr
	close    func() error
	since    time.Time              // it was acquired, or its client said something
	as       atomic.Pointer[string] // the authenticated client; nil: not yet
	element  *list.Element          // of unauthenticated; nil: authenticated, or released
	spoke    bool                   // guarded by limiter.mu, as element and released
	released bool
}

// Errors of Acquire.
var (
	errAddress = errors.New("admission: too many connections of one address")
	ErrFull    = errors.New("admission: too many connections")
	// ErrTaken is for when authenticated clients have all connections, so that
	// waiting has no end.
	ErrTaken = errors.New("admission: known clients have all connections")
)

// Acquire takes a slot for a connection that has said nothing yet. When the slot
// is wanted for another connection, it is released and closeConn is called, once
// and in a goroutine of its own. After an error the caller closes the connection,
// or after ErrFull waits for Freed.
func (d *Limiter) Acquire(a netip.Addr, closeConn func() error) (*Slot, error) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.limits
	if full(d.addresses[a], l.PerAddress) && a.IsValid() || full(d.unauthenticatedOf(a), l.UnauthenticatedPerAddress) {
		if !d.evict(a, now, 1) {
			d.refused.Add(1)
			return nil, errAddress
		}
	}
	if full(d.open, l.Open) && d.pending == 0 {
		d.refused.Add(1)
		return nil, ErrTaken
	}
	if full(d.open, l.Open) || full(d.pending, l.Unauthenticated) {
		crowd, most := d.crowded()
		own, share := d.unauthenticatedOf(a), time.Duration(1)
		if a.IsValid() && most > own+1 {
			share = 10
		}
		if !d.evict(crowd, now, share) {
			if full(d.pending, l.Unauthenticated) && own > 0 && most <= own+1 { // others wait behind it
				d.refused.Add(1)
				return nil, errAddress
			}
			return nil, ErrFull
		}
	}
	p := &Slot{limiter: d, address: a, close: closeConn, since: now}
	d.open++
	d.pending++
	if a.IsValid() {
		d.addresses[a]++
	}
	if d.unauthenticated[a] == nil {
		d.unauthenticated[a] = new(unauthenticated)
	}
	p.element = d.unauthenticated[a].silent.PushBack(p)
	return p, nil
}

// Refuse counts a connection that is closed because of ErrFull.
func (d *Limiter) Refuse() { d.refused.Add(1) }

// Freed is closed when a slot is released or its client is authenticated. Without
// that, there may be a slot after Grace.
func (d *Limiter) Freed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.freed == nil {
		d.freed = make(chan struct{})
	}
	return d.freed
}

func full(n, limit int) bool { return limit > 0 && n >= limit }

func (d *Limiter) unauthenticatedOf(a netip.Addr) int {
	if l := d.unauthenticated[a]; l != nil && a.IsValid() {
		return l.number()
	}
	return 0
}

// crowded is the address with most unauthenticated connections, and how many
// these are; of several addresses, one with a silent connection, the oldest.
// There are no more addresses than such connections.
func (d *Limiter) crowded() (crowd netip.Addr, most int) {
	var turn *Slot
	for a, s := range d.unauthenticated {
		p, n := s.first(), s.number()
		if n > most || n == most && (p.spoke == turn.spoke && p.since.Before(turn.since) || turn.spoke && !p.spoke) {
			crowd, most, turn = a, n, p
		}
	}
	return crowd, most
}

// evict closes an unauthenticated connection of an address, if it has had its
// time, divided by share.
func (d *Limiter) evict(a netip.Addr, now time.Time, share time.Duration) bool {
	s := d.unauthenticated[a]
	if s == nil {
		return false
	}
	p := oldest(&s.silent, now.Add(-SilentGrace/share))
	if p == nil {
		p = oldest(&s.spoke, now.Add(-Grace/share))
	}
	if p == nil {
		return false
	}
	d.evicted.Add(1)
	p.release()
	go p.close() //nolint:errcheck // closing TLS may wait for the client
	return true
}

// oldest is the first slot of a list, nil if it came after by.
func oldest(l *list.List, by time.Time) *Slot {
	if l.Len() == 0 || l.Front().Value.(*Slot).since.After(by) {
		return nil
	}
	return l.Front().Value.(*Slot)
}

// Spoke says that the client has sent something. It may be called again.
func (p *Slot) Spoke() {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	if p.element == nil || p.spoke {
		return
	}
	s := p.limiter.unauthenticated[p.address]
	s.silent.Remove(p.element)
	p.spoke, p.since = true, time.Now()
	p.element = s.spoke.PushBack(p)
}

// Authenticated says that the client is authenticated from now on, and as whom.
// It costs nothing when called again.
func (p *Slot) Authenticated(as string) {
	if last := p.as.Load(); last == nil || *last != as {
		if p.as.Swap(&as) == nil {
			p.limiter.mu.Lock()
			defer p.limiter.mu.Unlock()
			p.authenticate()
		}
	}
}

// IsAuthenticated says whether Authenticated was called.
func (p *Slot) IsAuthenticated() bool { return p.as.Load() != nil }

// IsAuthenticatedAs says whether that is so of the last call of Authenticated.
func (p *Slot) IsAuthenticatedAs(principal string) bool {
	last := p.as.Load()
	return last != nil && *last == principal
}

// authenticate takes the slot out of the unauthenticated ones.
func (p *Slot) authenticate() {
	if p.element == nil {
		return
	}
	d, s := p.limiter, p.limiter.unauthenticated[p.address]
	s.of(p).Remove(p.element)
	if s.number() == 0 {
		delete(d.unauthenticated, p.address)
	}
	p.element = nil
	d.pending--
	d.signalFreed()
}

// Release frees the slot. It may be called again.
func (p *Slot) Release() {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	p.release()
}

func (p *Slot) release() {
	if p.released {
		return
	}
	p.authenticate()
	p.released = true
	d := p.limiter
	d.open--
	d.signalFreed()
	if !p.address.IsValid() {
		return
	}
	if d.addresses[p.address]--; d.addresses[p.address] == 0 {
		delete(d.addresses, p.address)
	}
}

// signalFreed wakes those who wait for Freed.
func (d *Limiter) signalFreed() {
	if d.freed != nil {
		close(d.freed)
		d.freed = nil
	}
}

// Stats are counts since NewLimiter, except where "now" is said.
type Stats struct {
	Open, Unauthenticated int    // now; Unauthenticated are part of Open
	Refused               uint64 // connections that found no slot
	Evicted               uint64 // that were closed for another
}

// Stats returns what has come to pass.
func (d *Limiter) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{d.open, d.pending, d.refused.Load(), d.evicted.Load()}
}

// AddressOf is what a connection counts against: the client's address, of which
// with IPv6 everybody has a /64 full; the zero Addr for none.
func AddressOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return site(tcp.AddrPort())
}

// Host is an address, with its port, without it: "" for what is no host:port, such
// as that of a pipe.
func Host(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

// AddressIn is AddressOf for an address as text, with its port.
func AddressIn(text string) netip.Addr {
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}
	}
	return site(a)
}

func site(a netip.AddrPort) netip.Addr {
	ip := a.Addr().Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64) // 64 bits are in every IPv6 address
		return p.Addr()
	}
	return ip
}
