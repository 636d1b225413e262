package admission

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	a = netip.MustParseAddr("192.0.2.1")
	b = netip.MustParseAddr("192.0.2.2")
	c = netip.MustParseAddr("2001:db8::")
)

// A crowd enters a limiter and remembers who was closed.
type crowd struct {
	t *testing.T
	*Limiter
}

func (x crowd) enter(from netip.Addr) (p *Slot, closed *atomic.Bool) {
	closed = new(atomic.Bool)
	p, err := x.Acquire(from, func() error { closed.Store(true); return nil })
	if err == ErrFull {
		x.Refuse()
	}
	return p, closed
}

func (x crowd) want(open, pending int, refused, evicted uint64) {
	x.t.Helper()
	synctest.Wait()
	if got := (Stats{open, pending, refused, evicted}); x.Stats() != got {
		x.t.Errorf("%+v, want %+v", x.Stats(), got)
	}
}

// One address that says nothing has its part of the places, and no more; when
// all are taken by such, those of the address with most of them go first.
func TestStrangersKeepNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := crowd{t, NewLimiter(Limits{Open: 8, UnauthenticatedPerAddress: 4})}
		var oldest *atomic.Bool
		for i := range 4 {
			p, closed := x.enter(a)
			if p == nil {
				t.Fatal(i)
			}
			if i == 0 {
				oldest = closed
			}
		}
		if p, _ := x.enter(a); p != nil {
			t.Error("a fifth of one address, before the others had their time")
		}
		known, _ := x.enter(b)
		known.Authenticated("x")
		for range 3 {
			x.enter(c)
		}
		x.want(8, 7, 1, 0)
		if p, _ := x.enter(b); p != nil {
			t.Error("a ninth")
		}
		time.Sleep(Grace)
		if p, _ := x.enter(b); p == nil {
			t.Error("refused for those who say nothing")
		}
		x.want(8, 7, 2, 1)
		if !oldest.Load() {
			t.Error("another was closed")
		}
	})
}

// Authenticated connections are not closed for others, and tell when they end.
func TestKnownStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := crowd{t, NewLimiter(Limits{Open: 3, PerAddress: 2})}
		var places []*Slot
		for _, from := range []netip.Addr{a, a, b} {
			p, _ := x.enter(from)
			p.Authenticated("x")
			places = append(places, p)
		}
		time.Sleep(time.Hour)
		if _, err := x.Acquire(c, func() error { return nil }); !errors.Is(err, ErrTaken) {
			t.Errorf("a fourth: %v", err)
		}
		freed := x.Freed()
		places[2].Release()
		places[2].Release()
		<-freed
		if p, _ := x.enter(a); p != nil {
			t.Error("a third of one address")
		}
		p, _ := x.enter(b)
		p.Release()
		places[0].Release()
		places[1].Release()
		x.want(0, 0, 2, 0)
		if len(x.addresses)+len(x.unauthenticated) != 0 {
			t.Errorf("%v %v", x.addresses, x.unauthenticated)
		}
	})
}

// Whatever comes and goes, the counts are those of who is there.
func TestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		r := rand.New(rand.NewPCG(seed, 0))
		x := crowd{t, NewLimiter(Limits{Open: 20, PerAddress: 12, Unauthenticated: 12, UnauthenticatedPerAddress: 6})}
		type one struct {
			p      *Slot
			closed *atomic.Bool
			known  bool
		}
		var all []one
		for step := range 20000 {
			switch n := r.IntN(10); {
			case n < 6:
				if p, closed := x.enter([]netip.Addr{a, b, c, {}}[r.IntN(4)]); p != nil {
					all = append(all, one{p, closed, false})
				}
			case n < 8 && len(all) > 0:
				i := r.IntN(len(all))
				all[i].p.Authenticated("x")
				all[i].known = true
			case len(all) > 0:
				i := r.IntN(len(all))
				all[i].p.Release()
				all = append(all[:i], all[i+1:]...)
			}
			time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
			synctest.Wait()
			open, pending, of := 0, 0, map[netip.Addr]int{}
			for _, o := range all {
				if o.closed.Load() {
					continue
				}
				open++
				of[o.p.address]++
				if !o.known {
					pending++
				}
				if o.known != o.p.IsAuthenticated() {
					t.Fatalf("seed %d step %d: known %v", seed, step, o.known)
				}
			}
			if s := x.Stats(); s.Open != open || s.Unauthenticated != pending || open > 20 || pending > 12 ||
				of[a] > 12 {
				t.Fatalf("seed %d step %d: %+v, want %d and %d; %v", seed, step, s, open, pending, of)
			}
		}
	})
}

func TestAddressOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:5": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::", "[fe80::1%eth0]:5": "fe80::",
	} {
		if got := AddressOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(in))); got.String() != want ||
			AddressIn(in) != got {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
	if x, _ := net.Pipe(); AddressOf(x.RemoteAddr()).IsValid() || AddressIn("pipe").IsValid() {
		t.Error("a pipe has an address")
	}
}

// Few addresses keep out nobody of another one, however many connections they
// open and whether they say something: their places are taken for it, and their
// newcomers do not wait in front of it.
func TestShareOfAddress(t *testing.T) {
	for spoken, patience := range map[bool]time.Duration{false: SilentGrace / 10, true: Grace / 10} {
		synctest.Test(t, func(t *testing.T) {
			x := crowd{t, NewLimiter(Limits{Unauthenticated: 8, UnauthenticatedPerAddress: 6})}
			for range 4 {
				for _, from := range []netip.Addr{a, c} {
					if p, _ := x.enter(from); spoken {
						p.Spoke()
					}
				}
			}
			time.Sleep(patience)
			for _, from := range []netip.Addr{a, c} {
				if _, err := x.Acquire(from, nil); err != errAddress {
					t.Errorf("of the crowd: %v", err)
				}
			}
			for range 2 { // of three addresses: 3, 3 and 2
				p, closed := x.enter(b)
				if p == nil {
					t.Fatal("another is kept out")
				}
				if synctest.Wait(); closed.Load() {
					t.Error("another was closed")
				}
			}
			x.want(8, 8, 2, 2)
			if p, _ := x.enter(b); p != nil {
				t.Error("more than its share")
			}
		})
	}
}

// Who has said nothing goes before who has, and sooner.
func TestSilentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := crowd{t, NewLimiter(Limits{Unauthenticated: 3})}
		speaking, _ := x.enter(a)
		_, silent := x.enter(b)
		other, _ := x.enter(c)
		speaking.Spoke()
		speaking.Spoke()
		other.Authenticated("x")
		other.Spoke()
		time.Sleep(time.Nanosecond)
		x.enter(c)
		time.Sleep(SilentGrace - 2)
		newcomer := netip.MustParseAddr("192.0.2.3")
		if p, _ := x.enter(newcomer); p != nil {
			t.Error("before its moment was over")
		}
		time.Sleep(time.Nanosecond)
		last, _ := x.enter(newcomer)
		if synctest.Wait(); last == nil || !silent.Load() {
			t.Fatal("the silent one stayed")
		}
		x.want(4, 3, 1, 1)
		speaking.Authenticated("y")
		speaking.Release()
		last.Release()
		x.want(2, 1, 1, 1)
	})
}

func TestHost(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1:80": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::1",
		"pipe": "", "": "", "192.0.2.1": ""} {
		if got := Host(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
