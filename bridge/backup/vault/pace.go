package vault

import (
	"context"
	"io"
	"sync"
	"time"
)

// A pace bounds bytes per second over everything that shares it.
type pace struct {
	rate int64 // bytes per second; 0: no bound

	mu   sync.Mutex
	next time.Time // at which the bytes so far have had their time
}

func newPace(rate int64) *pace { return &pace{rate: rate} }

// burst is how much may go at once, in time: a second's worth after a pause.
const burst = time.Second

// wait returns when n bytes more may go.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate == 0 || n == 0 {
		return nil
	}
	now := time.Now()
	p.mu.Lock()
	if earliest := now.Add(-burst); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	pause := p.next.Sub(now)
	p.mu.Unlock()
	if pause <= 0 {
		return nil
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// maxStep is the most that is read before the pace is asked, bytes: with small steps
// the rate is even.
const maxStep = 16 << 10

// reader is r at this pace, until the context ends.
func (p *pace) reader(ctx context.Context, r io.Reader) io.Reader {
	if p.rate == 0 {
		return within{ctx, r}
	}
	return paced{ctx, p, r}
}

type paced struct {
	ctx  context.Context
	pace *pace
	r    io.Reader
}

func (p paced) Read(b []byte) (int, error) {
	n, err := p.r.Read(b[:min(len(b), maxStep)])
	if err := p.pace.wait(p.ctx, n); err != nil {
		return 0, err
	}
	return n, err
}
