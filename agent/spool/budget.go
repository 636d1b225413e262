package spool

import "time"

const (
	day = 24 * time.Hour

	// budgetBurst is how much of a day's bytes may be saved up for later: an hour's.
	// The rest is what is given out evenly, so that no day gets more than its bytes.
	budgetBurst = day / time.Hour

	// defaultMaxLoss is Options.MaxLoss where there is MaxWrites.
	defaultMaxLoss = 10 * time.Minute
)

// A budget says when the bytes of a day allow for another flush. It begins with what
// may be saved up: a start writes more than a flush.
type budget struct {
	perDay  int64                // 0: no bound
	written func() (int64, bool) // what the process has written

	last int64     // of written
	at   time.Time // of last; zero: not yet known
	left float64   // bytes
	cost float64   // of a flush, the last ones more than those before
}

func (b *budget) rate() float64 { // bytes in a second
	return float64(b.perDay) * (1 - 1/float64(budgetBurst)) / day.Seconds()
}

// spend takes over what was written since the last call.
func (b *budget) spend(now time.Time) {
	if b.perDay <= 0 || b.written == nil {
		return
	}
	n, ok := b.written()
	if !ok {
		return
	}
	if b.at.IsZero() {
		b.left = float64(b.perDay) / float64(budgetBurst)
	} else {
		spent := float64(n - b.last)
		b.left = min(b.left+now.Sub(b.at).Seconds()*b.rate()-spent, float64(b.perDay)/float64(budgetBurst))
		b.cost += (spent - b.cost) / 4
	}
	b.last, b.at = n, now
}

// wait is how long the bytes of one flush take to come up.
func (b *budget) wait() time.Duration {
	if b.perDay <= 0 || b.at.IsZero() || b.left >= b.cost {
		return 0
	}
	return time.Duration(min((b.cost-b.left)/b.rate(), day.Seconds()) * float64(time.Second))
}

// Loss says what a power cut costs.
type Loss struct {
	// Every is Options.FlushEvery, or what SetFlushEvery said, and Interval what holds
	// now: longer, where MaxWrites asks for it.
	Every, Interval time.Duration
	// Over says that MaxWrites is not kept: an interval of MaxLoss writes more.
	Over bool
	// Since is when the oldest reading in memory was taken up, zero where there is
	// none: that far back goes what would be lost. While the file can't be written it may
	// be longer ago than Interval.
	Since time.Time
}

// plan sets the time to the next flush. flushing is not held.
func (s *Spool) plan() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget.spend(time.Now())
	wait := s.budget.wait()
	s.loss.Over = wait > max(s.o.MaxLoss, s.every)
	s.loss.Interval = max(s.every, min(wait, s.o.MaxLoss))
	return s.loss.Interval
}
