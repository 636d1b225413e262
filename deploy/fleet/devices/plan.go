package devices

import (
	"math/rand/v2"
	"time"
)

// A fault is what happens to a device.
type fault int

const (
	offline  fault = iota
	online         // the end of offline
	reboot         // clean
	powerCut       // without a flush
	clockJump
	clockRight // the end of clockJump
	faults
)

// never is beyond every run.
const never = 365 * 24 * time.Hour

// A plan says when a device has which fault. The same seed gives the same plan.
type plan struct {
	f    Faults
	rand *rand.Rand
	at   [faults]time.Time
}

func (d *simulated) plan() *plan { return newPlan(d.o.Faults, d.rand, time.Now()) }

func newPlan(f Faults, r *rand.Rand, start time.Time) *plan {
	p := &plan{f: f, rand: r}
	for i, every := range [faults]time.Duration{offline: f.OfflineEvery, reboot: f.RebootEvery,
		powerCut: f.PowerCutEvery, clockJump: f.ClockJumpEvery} {
		p.at[i] = start.Add(p.wait(every))
	}
	return p
}

// draw is a time of the given mean.
func (p *plan) draw(mean time.Duration) time.Duration {
	return min(time.Duration(p.rand.ExpFloat64()*float64(mean)), never)
}

// wait is draw where 0 is never.
func (p *plan) wait(mean time.Duration) time.Duration {
	if mean == 0 {
		return never
	}
	return p.draw(mean)
}

func (p *plan) first() (f fault) {
	for i := range p.at {
		if p.at[i].Before(p.at[f]) {
			f = fault(i)
		}
	}
	return f
}

// next is how long the next fault is away.
func (p *plan) next() time.Duration { return max(0, time.Until(p.at[p.first()])) }

// take returns the fault that is due, and plans the one after it.
func (p *plan) take() fault {
	f, now := p.first(), time.Now()
	switch f {
	case offline:
		p.at[online] = now.Add(p.draw(p.f.OfflineFor))
		p.at[offline] = p.at[online].Add(p.wait(p.f.OfflineEvery))
	case online:
		p.at[online] = now.Add(never)
	case clockJump:
		p.at[clockRight] = now.Add(p.draw(p.f.ClockJumpFor))
		p.at[clockJump] = p.at[clockRight].Add(p.wait(p.f.ClockJumpEvery))
	case clockRight:
		p.at[clockRight] = now.Add(never)
	case reboot:
		p.at[reboot] = now.Add(p.wait(p.f.RebootEvery))
	case powerCut:
		p.at[powerCut] = now.Add(p.wait(p.f.PowerCutEvery))
	}
	return f
}
