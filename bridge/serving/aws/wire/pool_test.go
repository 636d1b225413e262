package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// asks asks for n, and returns where to hear that it was given.
func (p *pool) asks(ctx context.Context, n int64, owners ...owner) <-chan error {
	got := make(chan error, 1)
	go func() { got <- p.acquire(ctx, n, owners) }()
	synctest.Wait()
	return got
}

func came(t *testing.T, got <-chan error, want bool) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-got:
		if !want || err != nil {
			t.Errorf("came: %v", err)
		}
	default:
		if want {
			t.Error("did not come")
		}
	}
}

// One that wants much does not hold up those who want little, nor do they keep
// it out for ever.
func TestPoolOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ctx := newPool(10), t.Context()
		came(t, p.asks(ctx, 8), true)
		large := p.asks(ctx, 4)
		for range 2 { // it lets pass as much as it wants
			came(t, p.asks(ctx, 2), true)
			p.release(2, nil)
		}
		small := p.asks(ctx, 2)
		came(t, large, false)
		came(t, small, false) // fits, but is not next any more
		p.release(8, nil)
		came(t, large, true)
		came(t, small, true)
		p.release(4, nil)
		p.release(2, nil)
		if p.inUse() != 0 || len(p.waiting) != 0 {
			t.Errorf("%d in use, %d waiting", p.inUse(), len(p.waiting))
		}
	})
}

// Who gives up leaves nothing behind, and lets those go on that it held up.
func TestPoolGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(10)
		came(t, p.asks(t.Context(), 8), true)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		large := p.asks(short, 9)
		for range 5 {
			came(t, p.asks(t.Context(), 2), true)
			p.release(2, nil)
		}
		small := p.asks(t.Context(), 2)
		came(t, small, false)
		if err := <-large; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		came(t, small, true)
		if err := p.acquire(t.Context(), 11, nil); !errors.Is(err, errBusy) {
			t.Errorf("more than there is: %v", err)
		}
	})
}

// Nobody has more than its part, and who waits for its own part holds up
// nobody.
func TestPoolParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ctx := newPool(100), t.Context()
		a, b, all := owner{"a", aPrincipal, 0.75}, owner{"b", aPrincipal, 0.75}, owner{"", allUnknown, 29. / 32}
		came(t, p.asks(ctx, 70, a, all), true)
		more := p.asks(ctx, 10, a, all)
		came(t, more, false)
		came(t, p.asks(ctx, 20, b, all), true)
		came(t, p.asks(ctx, 1, b, all), false) // of all
		came(t, p.asks(ctx, 10), true)
		p.release(70, []owner{a, all})
		came(t, more, true)
	})
}

// Whatever is asked for and given back, no more is given than there is.
func TestPoolCounts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := newPool(1000)
		for range 300 {
			n := 1 + r.Int64N(600)
			owners := []owner{{fmt.Sprint(r.IntN(4)), aPrincipal, 0.5}, {"", allUnknown, 29. / 32}}
			wait, stay := time.Duration(r.IntN(5000))*time.Millisecond, time.Duration(r.IntN(5000))*time.Millisecond
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				defer cancel()
				if p.acquire(ctx, n, owners) != nil {
					return
				}
				if p.inUse() > 1000 {
					t.Errorf("seed %d: %d in use", seed, p.inUse())
				}
				time.Sleep(stay)
				p.release(n, owners)
			}()
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if p.inUse() != 0 || len(p.shares) != 0 || len(p.waiting) != 0 {
			t.Errorf("seed %d: %d in use, %v, %d waiting", seed, p.inUse(), p.shares, len(p.waiting))
		}
	})
}
