package send

import "sync/atomic"

// sizes are the upper bounds of how many deliveries one Send had.
var sizes = [...]int{1, 2, 5, 10, 25, 100, 500, 1000}

// counters are of one kind of action, since the start of the process.
type counters struct {
	done, again, refused atomic.Int64
	calls                [len(sizes) + 1]atomic.Int64 // by size
}

func (c *counters) add(errs []error) {
	i := 0
	for i < len(sizes) && len(errs) > sizes[i] {
		i++
	}
	c.calls[i].Add(1)
	for _, err := range errs {
		switch {
		case err == nil:
			c.done.Add(1)
		case permanent(err):
			c.refused.Add(1)
		default:
			c.again.Add(1)
		}
	}
}

// Stats are counts of one kind of action since the start of the process.
type Stats struct {
	Delivered int64
	Retried   int64 // tries that are repeated, or given up for their age
	Failed    int64 // deliveries that can never be had
	Sends     uint64
	Sizes     map[float64]uint64 // how many Sends had at most so many deliveries
}

// Stats returns what was counted, by kind of action.
func (s *Set) Stats() map[string]Stats {
	all := map[string]Stats{}
	for kind, x := range s.senders {
		c := &x.count
		st := Stats{Delivered: c.done.Load(), Retried: c.again.Load(), Failed: c.refused.Load(),
			Sizes: map[float64]uint64{}}
		for i := range c.calls {
			st.Sends += uint64(c.calls[i].Load())
			if i < len(sizes) {
				st.Sizes[float64(sizes[i])] = st.Sends
			}
		}
		all[kind] = st
	}
	return all
}
