package lambda

import (
	"slices"
	"time"
)

const (
	// settleFor is how long a call waits for a process that has answered and will ask
	// again at once, rather than start another.
	settleFor = 100 * time.Millisecond
	// grace is how long a process has to end by itself after SIGTERM.
	grace = 500 * time.Millisecond
)

// take returns an idle process of f, or nil if one must be started, for which there
// is room then. Processes of earlier revisions are ended.
func (m *Manager) take(f *Function) (*instance, error) {
	timer := time.NewTimer(settleFor)
	defer timer.Stop()
	for waited := false; ; {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		p, old := m.pool(f.Name), []*instance(nil)
		var best *instance
		for _, i := range p.instances {
			switch {
			case !i.idle:
			case i.f.Version == f.Version && (i.f.Revision != f.Revision || m.keyEnds(i)):
				old = append(old, i)
			case i.f.Version == f.Version && (best == nil || i.used > best.used):
				best = i
			}
		}
		for _, i := range old {
			m.remove(i)
		}
		wait := best == nil && p.settling > 0 && !waited
		if best != nil {
			best.idle = false
		} else if !wait {
			if m.total >= m.o.Concurrency {
				old = append(old, m.evict()...)
			}
			m.total++
		}
		wake := m.wake
		m.mu.Unlock()
		m.end(old)
		switch {
		case best != nil:
			best.thaw()
			return best, nil
		case !wait:
			return nil, nil
		}
		select {
		case <-wake:
		case <-timer.C:
			waited = true
		}
	}
}

// keyLife is how long the key of a process holds beside one call of its function.
const keyLife = time.Hour

// keyEnds says whether a process's key does not hold for another call, or it should have
// one and has not, or the other way round: a process that is started has it then, since
// SDKs read keys from the environment once.
func (m *Manager) keyEnds(i *instance) bool {
	if m.o.Keys == nil {
		return false
	}
	has := i.key.ID != ""
	return has != m.o.Keys.Granted(i.f) || has && time.Until(i.key.Expires) < i.f.Timeout+initTimeout
}

// evict takes the process out that was idle the longest; mu is held.
func (m *Manager) evict() []*instance {
	var oldest *instance
	for _, p := range m.pools {
		for _, i := range p.instances {
			if i.idle && (oldest == nil || i.used < oldest.used) {
				oldest = i
			}
		}
	}
	if oldest == nil { // all are busy, or end
		return nil
	}
	m.remove(oldest)
	return []*instance{oldest}
}

// remove takes a process out of its pool; mu is held. It must be ended then.
func (m *Manager) remove(i *instance) {
	p := m.pool(i.f.Name)
	if n := slices.Index(p.instances, i); n >= 0 {
		p.instances = slices.Delete(p.instances, n, n+1)
		m.total--
		i.idle = false
	}
}

// idle takes processes out that were used last before a time.
func (m *Manager) idle(before time.Time) (all []*instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		for _, i := range slices.Clone(p.instances) {
			if i.idle && i.since.Before(before) {
				m.remove(i)
				all = append(all, i)
			}
		}
	}
	return all
}

// end ends processes, which are in no pool, and does not wait for it.
func (m *Manager) end(all []*instance) {
	for _, i := range all {
		i.thaw()
		i.process.Terminate()
		m.calls.Go(func() {
			timer := time.NewTimer(grace)
			defer timer.Stop()
			select {
			case <-i.process.Done():
			case <-timer.C:
				i.process.Kill()
			}
		})
	}
}

// End ends the idle processes of a function, which is gone or has changed.
func (m *Manager) End(function string) {
	m.mu.Lock()
	var all []*instance
	for _, i := range slices.Clone(m.pool(function).instances) {
		if i.idle {
			m.remove(i)
			all = append(all, i)
		}
	}
	m.mu.Unlock()
	m.end(all)
}

// settle says that a process has answered, and will ask again.
func (m *Manager) settle(i *instance, begins bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if begins != i.settling {
		i.settling = begins
		m.pool(i.f.Name).settling += map[bool]int{true: 1, false: -1}[begins]
	}
}

// settled gives a process back: it is idle, or has ended.
func (m *Manager) settled(i *instance, idle bool) {
	m.settle(i, false)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !idle || m.closed {
		m.remove(i)
		i.process.Kill()
	} else {
		m.turn++
		i.idle, i.used, i.since = true, m.turn, time.Now()
		i.freezeSoon()
	}
	close(m.wake)
	m.wake = make(chan struct{})
}
