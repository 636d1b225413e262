package disk

import "time"

// A Status is what the disk holds, for the command line, metrics and whoever looks
// after the bridge.
type Status struct {
	Dir     string `json:"dir"`
	Size    int64  `json:"size"`    // bytes of the file system
	Free    int64  `json:"free"`    // of them
	Reserve int64  `json:"reserve"` // bytes that new data leaves free
	Budget  int64  `json:"budget"`  // bytes of all parts together; 0: the file system's
	Used    int64  `json:"used"`    // bytes of all parts together
	Parts   []Use  `json:"parts"`
	// Refused is what is not taken now: nothing, "data", or "data and growth"; Why
	// says for what reason.
	Refused string `json:"refused,omitempty"`
	Why     string `json:"why,omitempty"`
	// Full are the limits of parts and the budget of which 80 % are used.
	Full []string `json:"full,omitempty"`
	// Refusals since the bridge was started, of new data and of growth.
	RefusedData   uint64    `json:"refused_data"`
	RefusedGrowth uint64    `json:"refused_growth"`
	Measured      time.Time `json:"measured"`
}

// Status returns what was measured last, at most some seconds ago.
func (m *Meter) Status() Status {
	m.mu.Lock()
	old := time.Since(m.measured) > stale
	m.mu.Unlock()
	if old {
		m.measure()
		m.look()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Dir: m.o.Dir, Size: m.size, Free: m.free, Reserve: m.o.Reserve, Budget: m.o.Budget, Used: m.total,
		RefusedData: m.refused[0].Load(), RefusedGrowth: m.refused[1].Load(), Measured: m.measured}
	for _, p := range m.o.Parts {
		s.Parts = append(s.Parts, Use{Name: p.Name, Of: p.Within, Used: m.uses[p.Name], Limit: p.Limit})
		for _, u := range m.others {
			if u.Of == p.Name {
				s.Parts = append(s.Parts, u)
			}
		}
	}
	switch level(m.level.Load()) {
	case noData:
		s.Refused = "data"
	case noGrowth:
		s.Refused = "data and growth"
	}
	if s.Refused != "" {
		s.Why = (*m.why.Load()).Error()
	}
	for _, what := range m.limits() {
		if m.warned[what] {
			s.Full = append(s.Full, what)
		}
	}
	return s
}

// limits are the names by which warnings are given, in order, but for that of the file
// system, of which Size and Free tell.
func (m *Meter) limits() []string {
	all := []string{"disk.budget"}
	for _, p := range m.o.Parts {
		all = append(all, "disk."+p.Name)
	}
	return all
}
