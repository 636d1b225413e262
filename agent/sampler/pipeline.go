package sampler

import (
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A pipeline is the way of readings with the same channels from the driver to the sink:
// what cannot be is taken out, several are averaged, what says nothing new stays out,
// or a window takes them. Only the runner's goroutine uses it.
type pipeline struct {
	r       *runner
	chs     []hal.Channel
	bounds  []Bounds
	s       Sampling
	filter  *filter  // nil: all is sent
	window  *window  // nil: none
	refused *summary // the window before, if the sink did not take it
	means   []mean   // by channel
	vals    []hal.Value
}

func (r *runner) newPipeline(chs []hal.Channel, s Sampling) *pipeline {
	p := &pipeline{r: r, chs: chs, bounds: limitsOf(chs, r.spec.Bounds), means: make([]mean, len(chs)),
		vals: make([]hal.Value, len(chs))}
	p.take(s, time.Now())
	return p
}

// take goes on by other settings. A window that is open is sent as it is.
func (p *pipeline) take(s Sampling, now time.Time) {
	if p.window != nil && p.window.length != s.Window {
		p.r.unkept(p.send(now))
		p.window = nil
	}
	if s.Window == 0 && p.refused != nil {
		p.refused = nil
		p.lost()
	}
	if s.Window > 0 && p.window == nil {
		p.window = newWindow(p.chs, s.Window, now)
	}
	switch {
	case !s.OnChange():
		p.filter = nil
	case p.filter == nil:
		p.filter = newFilter(p.chs, &s)
	default:
		old := p.filter
		p.filter = newFilter(p.chs, &s)
		p.filter.keep(old.sentAt, old.sent)
	}
	p.s = s
}

// begin starts the readings of one tick.
func (p *pipeline) begin() {
	clear(p.means)
	clear(p.vals)
}

// add takes one reading of a tick, from which what cannot be was taken out.
func (p *pipeline) add(vals []hal.Value) {
	for i, v := range vals {
		if v.Kind() == hal.Float {
			p.means[i].add(v.Float())
		}
		if v.Kind() != hal.Absent {
			p.vals[i] = v
		}
	}
}

// end is the tick's reading.
func (p *pipeline) end() []hal.Value {
	for i := range p.means {
		if p.means[i].n > 1 {
			p.vals[i] = hal.FloatValue(p.means[i].round())
		}
	}
	return p.vals
}

// put hands a reading over: to the window, to the sink, or to nobody. now is when it
// came, and at what it says.
func (p *pipeline) put(now, at time.Time, vals []hal.Value) error {
	if p.window != nil {
		var err error
		if _, over := p.window.over(now); over {
			err = p.send(now)
		}
		p.window.add(vals)
		return err
	}
	if p.filter != nil && !p.filter.due(now, &p.s, vals) {
		p.r.mu.Lock()
		p.r.st.Same++
		p.r.mu.Unlock()
		return nil
	}
	if err := p.append(p.chs, at, vals); err != nil {
		return err
	}
	if p.filter != nil {
		p.filter.keep(now, vals)
	}
	return nil
}

// send ends the open window and begins the next. One that the sink does not take is
// offered once more at the end of the next, before that.
func (p *pipeline) send(now time.Time) (err error) {
	stamp, _ := p.window.over(now)
	kept := p.refused
	p.refused = nil
	if kept != nil && p.append(p.window.chs, kept.stamp, kept.vals) != nil {
		p.lost()
	}
	if p.window.filled {
		vals := p.window.values()
		if err = p.append(p.window.chs, stamp, vals); err != nil {
			p.refused = &summary{stamp, slices.Clone(vals)}
		}
	}
	p.window.begin(now)
	return err
}

func (p *pipeline) lost() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.r.st.Lost++
}

// A summary is a window that the sink did not take.
type summary struct {
	stamp time.Time
	vals  []hal.Value
}

func (p *pipeline) append(chs []hal.Channel, at time.Time, vals []hal.Value) error {
	if err := p.r.s.o.Sink.Append(p.r.spec.Name, chs, at, vals); err != nil {
		return fmt.Errorf("%w: %w", errKeep, err)
	}
	p.r.mu.Lock()
	p.r.st.Readings++
	p.r.mu.Unlock()
	return nil
}

// maxPipelines bounds the sets of channels of a source that gives several.
const maxPipelines = 64

// pipelines are those of a sensor, which outlive its being closed and opened again. A sensor
// that is read has one.
type pipelines struct {
	r   *runner
	s   Sampling
	all []*pipeline
}

// of returns the one of these channels, which are not changed after.
func (ps *pipelines) of(chs []hal.Channel) *pipeline {
	for _, p := range ps.all {
		if slices.Equal(p.chs, chs) {
			return p
		}
	}
	if len(ps.all) == maxPipelines {
		ps.r.unkept(ps.all[0].flush(time.Now()))
		ps.all = slices.Delete(ps.all, 0, 1)
	}
	p := ps.r.newPipeline(chs, ps.s)
	ps.all = append(ps.all, p)
	return p
}

func (ps *pipelines) take(s Sampling, now time.Time) {
	ps.s = s
	for _, p := range ps.all {
		p.take(s, now)
	}
}

// due is when the first window ends; zero: there is none.
func (ps *pipelines) due() (t time.Time) {
	for _, p := range ps.all {
		if w := p.window; w != nil && w.filled && (t.IsZero() || w.end.Before(t)) {
			t = w.end
		}
	}
	return t
}

// close ends windows that are over.
func (ps *pipelines) close(now time.Time) (err error) {
	for _, p := range ps.all {
		if w := p.window; w != nil && !now.Before(w.end) && !w.early(now) {
			if e := p.send(now); e != nil {
				err = e
			}
		}
	}
	return err
}

// flush sends what a window has, before its end.
func (p *pipeline) flush(now time.Time) error {
	if p.window == nil {
		return nil
	}
	return p.send(now)
}

// flush sends what all windows have.
func (ps *pipelines) flush(now time.Time) (err error) {
	for _, p := range ps.all {
		if e := p.flush(now); e != nil {
			err = e
		}
	}
	return err
}
