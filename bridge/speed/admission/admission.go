// Package admission bounds the open connections of a listener: all of them,
// those of one address, and those of clients that nobody knows yet. Whoever may
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
// newcomer's would have: so many addresses as there are places are needed to
// keep out another.
const (
	// Grace is for who has said something. A TLS handshake and the first packet
	// or request take far less, also when thousands of devices come back at once
	// (790 handshakes a second on two cores).
	Grace = 5 * time.Second
	// Moment is for who has not: a client's first bytes come with the end of
	// TCP's handshake, or when they are lost once, a second later at most
	// (RFC 6298, section 2).
	Moment = time.Second
)

// Limits of a Door. Each 0 is none.
type Limits struct {
	Open       int // connections
	PerAddress int // of one address, see AddressOf
	Unknown    int // of clients that nobody knows yet
	// UnknownPerAddress are those of one address.
	UnknownPerAddress int
}

// A Door counts connections in and out. Several goroutines may use it.
type Door struct {
	limits           Limits
	refused, evicted atomic.Uint64

	mu        sync.Mutex // guards what follows
	open      int
	unknown   int
	addresses map[netip.Addr]int        // connections of each
	strangers map[netip.Addr]*strangers // those not known; none is empty
	left      chan struct{}             // closed when a place is given back; nil: nobody waits for that
}

// The strangers of an address are *Place, the oldest first.
type strangers struct{ silent, spoke list.List }

// of is the list in which p is to be.
func (s *strangers) of(p *Place) *list.List {
	if p.spoke {
		return &s.spoke
	}
	return &s.silent
}

func (s *strangers) number() int { return s.silent.Len() + s.spoke.Len() }

// first is whose turn it is to be closed.
func (s *strangers) first() *Place {
	l := &s.silent
	if l.Len() == 0 {
		l = &s.spoke
	}
	return l.Front().Value.(*Place)
}

// NewDoor returns a Door through which nobody has come.
func NewDoor(l Limits) *Door {
	return &Door{limits: l, addresses: map[netip.Addr]int{}, strangers: map[netip.Addr]*strangers{}}
}

// A Place is that of one connection. Its client is not known at first.
type Place struct {
	door    *Door
	address netip.Addr
	close   func() error
	since   time.Time              // it was taken, or its client said something
	known   atomic.Pointer[string] // as whom; nil: not yet
	waits   *list.Element          // of strangers; nil: known, or gone
	spoke   bool                   // guarded by door.mu, as waits and gone
	gone    bool
}

// What Enter says when there is no place.
var (
	ErrAddress = errors.New("admission: too many connections of one address")
	ErrFull    = errors.New("admission: too many connections")
	// ErrTaken is for when all of them are of known clients, so that waiting has no end.
	ErrTaken = errors.New("admission: known clients have all connections")
)

// Enter takes a place for a connection, which has said nothing yet. When that is wanted for another, close
// is called, once and in a goroutine of its own; the connection has left then.
// With an error the connection is to be closed, or with ErrFull to wait for
// Room.
func (d *Door) Enter(a netip.Addr, closeConn func() error) (*Place, error) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.limits
	if full(d.addresses[a], l.PerAddress) && a.IsValid() || full(d.strangersOf(a), l.UnknownPerAddress) {
		if !d.evict(a, now, 1) {
			d.refused.Add(1)
			return nil, ErrAddress
		}
	}
	if full(d.open, l.Open) && d.unknown == 0 {
		d.refused.Add(1)
		return nil, ErrTaken
	}
	if full(d.open, l.Open) || full(d.unknown, l.Unknown) {
		crowd, most := d.crowded()
		own, share := d.strangersOf(a), time.Duration(1)
		if a.IsValid() && most > own+1 {
			share = 10
		}
		if !d.evict(crowd, now, share) {
			if full(d.unknown, l.Unknown) && own > 0 && most <= own+1 { // others wait behind it
				d.refused.Add(1)
				return nil, ErrAddress
			}
			return nil, ErrFull
		}
	}
	p := &Place{door: d, address: a, close: closeConn, since: now}
	d.open++
	d.unknown++
	if a.IsValid() {
		d.addresses[a]++
	}
	if d.strangers[a] == nil {
		d.strangers[a] = new(strangers)
	}
	p.waits = d.strangers[a].silent.PushBack(p)
	return p, nil
}

// Refuse counts a connection that is closed because of ErrFull.
func (d *Door) Refuse() { d.refused.Add(1) }

// Room is closed when a place is given back or its client is known. Without
// that, there may be one after Grace.
func (d *Door) Room() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == nil {
		d.left = make(chan struct{})
	}
	return d.left
}

func full(n, limit int) bool { return limit > 0 && n >= limit }

func (d *Door) strangersOf(a netip.Addr) int {
	if l := d.strangers[a]; l != nil && a.IsValid() {
		return l.number()
	}
	return 0
}

// crowded is the address with most connections of clients that are not known,
// and how many these are; of several one with a silent one, the oldest. There
// are no more addresses than such connections.
func (d *Door) crowded() (crowd netip.Addr, most int) {
	var turn *Place
	for a, s := range d.strangers {
		p, n := s.first(), s.number()
		if n > most || n == most && (p.spoke == turn.spoke && p.since.Before(turn.since) || turn.spoke && !p.spoke) {
			crowd, most, turn = a, n, p
		}
	}
	return crowd, most
}

// evict closes a connection of an address that is not known, if it has had its
// time, divided by share.
func (d *Door) evict(a netip.Addr, now time.Time, share time.Duration) bool {
	s := d.strangers[a]
	if s == nil {
		return false
	}
	p := oldest(&s.silent, now.Add(-Moment/share))
	if p == nil {
		p = oldest(&s.spoke, now.Add(-Grace/share))
	}
	if p == nil {
		return false
	}
	d.evicted.Add(1)
	p.leave()
	go p.close() //nolint:errcheck // closing TLS may wait for the client
	return true
}

// oldest is the first place of a list, nil if it came after by.
func oldest(l *list.List, by time.Time) *Place {
	if l.Len() == 0 || l.Front().Value.(*Place).since.After(by) {
		return nil
	}
	return l.Front().Value.(*Place)
}

// Spoke says that the client has sent something. It may be called again.
func (p *Place) Spoke() {
	p.door.mu.Lock()
	defer p.door.mu.Unlock()
	if p.waits == nil || p.spoke {
		return
	}
	s := p.door.strangers[p.address]
	s.silent.Remove(p.waits)
	p.spoke, p.since = true, time.Now()
	p.waits = s.spoke.PushBack(p)
}

// Known says that the connection's client is authenticated from now on, and as
// whom. Saying it again costs nothing.
func (p *Place) Known(as string) {
	if last := p.known.Load(); last == nil || *last != as {
		if p.known.Swap(&as) == nil {
			p.door.mu.Lock()
			defer p.door.mu.Unlock()
			p.know()
		}
	}
}

// IsKnown says whether Known was called.
func (p *Place) IsKnown() bool { return p.known.Load() != nil }

// IsKnownAs says whether that is so of the last call of Known.
func (p *Place) IsKnownAs(principal string) bool {
	last := p.known.Load()
	return last != nil && *last == principal
}

// know takes the place out of those of strangers.
func (p *Place) know() {
	if p.waits == nil {
		return
	}
	d, s := p.door, p.door.strangers[p.address]
	s.of(p).Remove(p.waits)
	if s.number() == 0 {
		delete(d.strangers, p.address)
	}
	p.waits = nil
	d.unknown--
	d.room()
}

// Leave gives the place back. It may be called again.
func (p *Place) Leave() {
	p.door.mu.Lock()
	defer p.door.mu.Unlock()
	p.leave()
}

func (p *Place) leave() {
	if p.gone {
		return
	}
	p.know()
	p.gone = true
	d := p.door
	d.open--
	d.room()
	if !p.address.IsValid() {
		return
	}
	if d.addresses[p.address]--; d.addresses[p.address] == 0 {
		delete(d.addresses, p.address)
	}
}

// room tells those who wait.
func (d *Door) room() {
	if d.left != nil {
		close(d.left)
		d.left = nil
	}
}

// Stats are counts since NewDoor, except where "now" is said.
type Stats struct {
	Open, Unknown int    // now; Unknown are part of Open
	Refused       uint64 // connections that found no place
	Evicted       uint64 // that were closed for another
}

// Stats returns what has come to pass.
func (d *Door) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{d.open, d.unknown, d.refused.Load(), d.evicted.Load()}
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
