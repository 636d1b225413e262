package disk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Free asks statfs(2) what is free for this process, and how large the file system is.
func Free(dir string) (free, size int64, err error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil || !errors.Is(err, unix.EINTR) {
			block := int64(st.Bsize) // an int32 on 32-bit processors
			return int64(st.Bavail) * block, int64(st.Blocks) * block, err
		}
	}
}

// Run looks at the disk until ctx ends. It blocks where the file system does not
// answer; nobody waits for it.
func (m *Meter) Run(ctx context.Context) error {
	m.mu.Lock()
	m.running = true
	m.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { every(ctx, measureEvery, m.measure) }) // which may wait for a log on a full disk
	wg.Go(func() { every(ctx, lookEvery, m.look) })
	wg.Wait()
	return nil
}

// every calls f now, and then every d until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		f()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// A bound is something that may become full.
type bound struct {
	what   string
	left   int64
	data   int64 // new data is refused when less is left
	growth int64 // likewise
}

func boundOf(what string, left, keep int64) bound {
	return bound{what: what, left: left, data: keep, growth: keep - keep/4}
}

// keepOf is what new data leaves of a limit: an eighth, but not more than the reserve.
func (m *Meter) keepOf(limit int64) int64 {
	if m.o.Reserve > 0 {
		return min(m.o.Reserve, limit/8)
	}
	return limit / 8
}

// bounds are all that there are; mu is held.
func (m *Meter) bounds() []bound {
	var all []bound
	if m.o.Reserve > 0 && m.size > 0 {
		all = append(all, boundOf("the disk of "+m.o.Dir, m.free, m.o.Reserve))
	}
	if m.o.Budget > 0 {
		all = append(all, boundOf("disk.budget", m.o.Budget-m.total, m.keepOf(m.o.Budget)))
	}
	for _, p := range m.o.Parts {
		if p.Refuses && p.Limit > 0 {
			all = append(all, boundOf("disk."+p.Name, p.Limit-m.uses[p.Name], m.keepOf(p.Limit)))
		}
	}
	return all
}

// look asks the file system, and decides what is taken from now on.
func (m *Meter) look() {
	free, size, err := m.o.Free(m.o.Dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.free, m.size = free, size
	}
	m.fails("the disk", err)
	before := level(m.level.Load()) // which Took may have changed
	now, slack, why := open, int64(math.MaxInt64), ""
	for _, b := range m.bounds() {
		// What has been refused is taken again when there is a little more, so that
		// not each trim opens and closes it.
		data, growth := b.data, b.growth
		if before >= noData {
			data += data / 16
		}
		if before >= noGrowth {
			growth += growth / 16
		}
		at := open
		switch {
		case b.left < growth:
			at = noGrowth
		case b.left < data:
			at = noData
		}
		if at > now {
			now, why = at, fmt.Sprintf("%s has %d MiB left, and new data leaves %d MiB", b.what,
				max(b.left, 0)>>20, b.data>>20)
		}
		slack = min(slack, b.left-b.data)
	}
	m.slack.Store(slack)
	if now != open {
		err := fmt.Errorf("%w: %s", ErrNoRoom, why)
		m.why.Store(&err)
	}
	m.level.Store(int32(now))
	if !m.running {
		return
	}
	m.logChange(m.logged, now, why)
	m.logged = now
	if m.size > 0 {
		m.warn("the disk of "+m.o.Dir, m.size-m.free, m.size-m.o.Reserve)
	}
}

// logChange logs what is refused from now on; mu is held.
func (m *Meter) logChange(before, now level, why string) {
	switch {
	case before == now:
	case now == noGrowth:
		m.o.Log.Error("the disk has too little room: new data is refused, and rules wait", "why", why)
	case now == noData && before == open:
		m.o.Log.Error("the disk has too little room: new data is refused", "why", why)
	case now == noData:
		m.o.Log.Warn("the disk has a little more room: rules go on, new data is still refused", "why", why)
	default:
		m.o.Log.Info("the disk has room again, new data is taken")
	}
}

// measure asks all parts, unless that is under way.
func (m *Meter) measure() {
	if !m.measuring.TryLock() {
		return
	}
	defer m.measuring.Unlock()
	uses, others := map[string]int64{}, []Use(nil)
	known := map[string]bool{}
	for _, p := range m.o.Parts {
		known[p.Name] = true
	}
	var errs []error
	for _, f := range m.o.Measure {
		errs = append(errs, f(func(u Use) {
			if known[u.Name] {
				uses[u.Name] += u.Used
			} else {
				others = append(others, u)
			}
		}))
	}
	err := errors.Join(errs...)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil { // what could not be measured takes what it took
		was := maps.Clone(m.uses)
		maps.Copy(was, uses)
		uses = was
	}
	m.uses, m.others, m.total, m.measured = uses, others, 0, time.Now()
	for _, p := range m.o.Parts {
		if p.Within == "" {
			m.total += uses[p.Name]
		}
		if p.Limit > 0 {
			m.warn("disk."+p.Name, uses[p.Name], p.Limit)
		}
	}
	if m.o.Budget > 0 {
		m.warn("disk.budget", m.total, m.o.Budget)
	}
	m.fails("a part", err)
}

// warn logs once that 80 % are used, and again after it was less than 75 %; mu is
// held.
func (m *Meter) warn(what string, used, limit int64) {
	switch was := m.warned[what]; {
	case limit <= 0 || !m.running:
	case !was && used >= limit/5*4:
		m.warned[what] = true
		m.o.Log.Warn("80 % of a limit of the disk are used", "of", what, "used", used, "limit", limit)
	case was && used < limit/4*3:
		m.warned[what] = false
		m.o.Log.Info("less than 75 % of a limit of the disk are used again", "of", what, "used", used, "limit", limit)
	}
}

// fails logs an error when it is another than the last; mu is held.
func (m *Meter) fails(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if m.failing[what] != text && err != nil {
		m.o.Log.Warn("it cannot be measured what "+what+" takes, will retry", "err", err)
	}
	m.failing[what] = text
}
