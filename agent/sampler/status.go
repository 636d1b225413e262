package sampler

import (
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Status is a snapshot of one sensor.
type Status struct {
	Name   string
	Driver string
	Sampling
	State State
	Since time.Time // of State
	Kind  string    // of Error
	Error string    // "" while the sensor works
	Open  bool

	Reads       uint64 // readings taken
	Readings    uint64 // handed to the sink
	Same        uint64 // left out, since nothing had changed
	Missed      uint64 // ticks left out
	Overruns    uint64 // readings that took longer than Every
	Errors      uint64 // failures to open, read, set or hand over
	Implausible uint64 // values taken out of readings
	Recovered   uint64 // times that its bus was freed
	Dropped     uint64 // readings that a source dropped, since more came than were taken; see hal.Dropper
	Lost        uint64 // windows that the sink took neither at their end nor at the next one's
	Jitter      Jitter

	ErrorAt time.Time            // of the last failure, also when it works again
	Last    time.Time            // of the last reading
	Output  bool                 // it can be set
	Outputs map[string]hal.Value // by channel that can be set, as last set or read; not to be changed
	Held    bool                 // its outputs are at what is safe, and not set
	Hangs   bool                 // the driver does not return though its time is over
	Note    string               // what is to be said since it was opened; see hal.Noter
}

// Status lists the sensors by name.
func (s *Sampler) Status() []Status {
	s.mu.Lock()
	runners := make([]*runner, 0, len(s.runners))
	for _, r := range s.runners {
		runners = append(runners, r)
	}
	s.mu.Unlock()
	out := make([]Status, len(runners))
	for i, r := range runners {
		out[i] = r.snapshot()
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Alive says whether reading goes on: false when there are sensors and every
// one of them is stuck in its driver.
func (s *Sampler) Alive() bool {
	all := s.Status()
	return len(all) == 0 || slices.ContainsFunc(all, func(st Status) bool { return !st.Hangs })
}
