package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/serving/watch"
)

var watchCommand = command{name: "watch", args: "[FILTER...]",
	summary: "show messages as they come: time, messages a second of the topic, topic, payload",
	example: "tidemill-bridge watch                      # all but what begins with $\n" +
		"tidemill-bridge watch 'dt/#' '$aws/things/+/shadow/#'\ntidemill-bridge watch 'dt/pi-1/#' -n 10 -json",
	run: func(ctx context.Context, c *call) error {
		n := c.flags.Int("n", 0, "end after this many messages; 0: go on until interrupted")
		asJSON := c.flags.Bool("json", false, "print JSON, a line for each message")
		if err := c.parse(0, 1000); err != nil {
			return err
		}
		if *n < 0 {
			return usagef("watch: -n %d: want 0 or more", *n)
		}
		if len(c.args) == 0 {
			c.args = []string{"#"}
		}
		return c.with(ctx, func(a *client) error {
			if !a.live {
				return fmt.Errorf("no bridge runs over %s, so nothing comes: tidemill-bridge serve starts one", a.data)
			}
			out := c.stdout
			if *asJSON {
				out = c.json()
			}
			v := &viewer{out: out, notes: c.stderr, json: *asJSON, left: *n, rates: rates{}}
			var hint sync.WaitGroup
			defer hint.Wait()
			quiet, heard := context.WithCancel(ctx)
			defer heard()
			hint.Go(func() {
				select {
				case <-time.After(silence):
					v.note(whyNothing(ctx, a, c.args))
				case <-quiet.Done():
				}
			})
			v.note("watching " + printable(strings.Join(c.args, ", ")) + "; Ctrl-C ends")
			err := a.do(ctx, "GET", "/v1/watch", url.Values{"filter": c.args}, nil, lines(func(l watch.Line) bool {
				if l.Topic != "" {
					heard()
				}
				return v.line(&l)
			}))
			switch {
			case ctx.Err() != nil: // interrupted, as it is meant to be
				return nil
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return a.ended(ctx)
			}
			return err
		})
	}}

// silence is after how long without a message watch says what may be missing.
const silence = 15 * time.Second

// whyNothing says who is connected.
func whyNothing(ctx context.Context, a *client, filters []string) string {
	var things []admin.ThingInfo
	if err := a.do(ctx, "GET", "/v1/things", nil, nil, &things); err != nil {
		return "" // the bridge has stopped, which is said elsewhere
	}
	connected := 0
	for _, t := range things {
		if !t.Since.IsZero() {
			connected++
		}
	}
	text := fmt.Sprintf("nothing on %s for %v; %d of %d things connected", printable(strings.Join(filters, ", ")),
		silence, connected, len(things))
	switch {
	case len(things) == 0:
		return text + ": tidemill-bridge thing create NAME makes one"
	case connected == 0:
		return text + ": tidemill-agent status, on the device, says why"
	}
	return text + ": tidemill-agent status, on the device, says what its sensors do"
}

// A viewer prints what is watched.
type viewer struct {
	out, notes io.Writer
	json       bool
	left       int // messages until it has enough; 0: never
	rates      rates
	noting     sync.Mutex
}

// note tells the person, not the program behind a pipe.
func (v *viewer) note(text string) {
	v.noting.Lock()
	defer v.noting.Unlock()
	if text != "" {
		fmt.Fprintln(v.notes, text)
	}
}

// line prints a line and says whether it was the last that is wanted.
func (v *viewer) line(l *watch.Line) (enough bool) {
	if l.Skipped > 0 {
		v.note(fmt.Sprintf("%d messages came faster than they could be shown, and are left out", l.Skipped))
	}
	if l.Topic == "" {
		return false
	}
	var err error
	if v.json {
		enc := json.NewEncoder(v.out)
		enc.SetEscapeHTML(false)
		err = enc.Encode(l)
	} else {
		payload := l.Text
		switch {
		case l.JSON != nil:
			payload = string(l.JSON)
		case l.Data != nil:
			payload = string(l.Data)
		}
		at := time.UnixMilli(l.Time)
		_, err = fmt.Fprintf(v.out, "%s  %8s  %s  %s\n", at.Format("15:04:05.000"), v.rates.add(l.Topic, at),
			printable(l.Topic), printable(payload))
	}
	if v.left--; v.left == 0 {
		return true
	}
	return err != nil // nobody reads any more
}

// rates are how often messages come, by topic.
type rates map[string][]time.Time

const (
	rateOver   = 30   // messages that a rate is taken over
	ratedMost  = 4096 // topics; then all begin anew
	rateNoneAs = "-"  // of a topic's first message
)

// add counts a message and returns the rate of its topic, such as "0.2/s".
func (r rates) add(topic string, at time.Time) string {
	if len(r) >= ratedMost && r[topic] == nil {
		clear(r)
	}
	times := append(r[topic], at)
	times = times[max(0, len(times)-rateOver):]
	r[topic] = times
	span := at.Sub(times[0])
	if span <= 0 {
		return rateNoneAs
	}
	return fmt.Sprintf("%.3g/s", float64(len(times)-1)/span.Seconds())
}
