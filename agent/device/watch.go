package device

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/hal"
)

// A Reading is one reading as people see it.
type Reading struct {
	Sensor string         `json:"sensor"`
	TS     int64          `json:"ts"` // epoch ms
	Values []ReadingValue `json:"values"`
}

// A ReadingValue is the value of one channel.
type ReadingValue struct {
	Name string `json:"name"`
	Text string `json:"text"` // "-" for none
	Unit string `json:"unit,omitempty"`
}

// NewReading makes one of what a sensor gives.
func NewReading(sensor string, chs []hal.Channel, t int64, vals []hal.Value) Reading {
	r := Reading{Sensor: sensor, TS: t, Values: make([]ReadingValue, len(chs))}
	for i, ch := range chs {
		v := ReadingValue{Name: ch.Name, Text: "-"}
		switch vals[i].Kind() {
		case hal.Float:
			v.Text = strconv.FormatFloat(vals[i].Float(), 'g', 8, 64)
		case hal.Int:
			v.Text = strconv.FormatInt(vals[i].Int(), 10)
		case hal.Bool:
			v.Text = strconv.FormatBool(vals[i].Bool())
		case hal.Text:
			v.Text = strconv.Quote(vals[i].Text())
		}
		if vals[i].Kind() != hal.Absent {
			v.Unit = ch.Unit
		}
		r.Values[i] = v
	}
	return r
}

// String lists the values: "temperature 21.5 °C, humidity 45 %RH".
func (r Reading) String() string {
	var b strings.Builder
	for i, v := range r.Values {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v.Name + " " + v.Text)
		if v.Unit != "" {
			b.WriteString(" " + v.Unit)
		}
	}
	return b.String()
}

// watchRoom is how many readings a watcher may be behind.
const watchRoom = 256

// A broadcast hands readings to those who watch. It never waits for one: a watcher
// that is too slow misses readings.
type broadcast struct {
	mu       sync.Mutex // guards watchers
	watchers map[chan Reading]struct{}
}

func (f *broadcast) put(sensor string, chs []hal.Channel, t func() int64, vals []hal.Value) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watchers) == 0 {
		return
	}
	r := NewReading(sensor, chs, t(), vals)
	for w := range f.watchers {
		select {
		case w <- r:
		default:
		}
	}
}

// Watch calls show with each reading that is taken from now on, until ctx is done
// or show fails, whose error it returns.
func (a *Agent) Watch(ctx context.Context, show func(Reading) error) error {
	w := make(chan Reading, watchRoom)
	a.watch.mu.Lock()
	if a.watch.watchers == nil {
		a.watch.watchers = map[chan Reading]struct{}{}
	}
	a.watch.watchers[w] = struct{}{}
	a.watch.mu.Unlock()
	defer func() {
		a.watch.mu.Lock()
		defer a.watch.mu.Unlock()
		delete(a.watch.watchers, w)
	}()
	for {
		select {
		case r := <-w:
			if err := show(r); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
