package gateway

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// A will is published by the rights that its client has then, whatever ends the
// connection and however long the will waits.
func TestWillsFollowPolicy(t *testing.T) {
	lose := func(_ *fixture, w *wire) { w.nc.Close() }
	forbid := func(f *fixture, _ *wire) {
		f.Disconnect(func(c *Client) bool { return c.ID() == "x" }, ReasonForbidden)
	}
	for name, c := range map[string]struct {
		retain bool
		delay  uint32 // s
		denied string // when the connection has begun
		end    func(*fixture, *wire)
		later  string // denied while the will waits
		wants  bool
	}{
		"allowed":                {end: lose, wants: true},
		"allowed, kicked":        {end: forbid, wants: true},
		"lost":                   {denied: "publish w", end: lose},
		"kicked":                 {denied: "publish w", end: forbid},
		"taken over":             {denied: "publish w", end: func(f *fixture, w *wire) { f.clean5(w.t, "x") }},
		"other right":            {denied: "receive w2", end: lose, wants: true},
		"retained":               {retain: true, denied: "retain w", end: lose},
		"not retained":           {denied: "retain w", end: lose, wants: true},
		"delayed":                {delay: 10, denied: "publish w", end: lose},
		"delayed, denied later":  {delay: 10, end: lose, later: "publish w"},
		"delayed, retained":      {delay: 10, retain: true, end: lose, later: "retain w"},
		"delayed, allowed":       {delay: 10, end: lose, wants: true},
		"delayed until the stop": {delay: 3000, end: lose, later: "publish w"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				var wills []string
				f := startPipes(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, publishFunc(func(p Publish) {
					if !p.Will {
						t.Error("the will is not said to be one")
					}
					wills = append(wills, p.Message.Topic)
					p.Done(nil)
				}))
				w, _ := f.connect5(t, &packet.Connect{ClientID: "x", Properties: number(packet.SessionExpiry, 3600),
					HasWill:   true,
					WillTopic: "w", WillRetain: c.retain, WillPayload: []byte("gone"),
					WillProperties: number(packet.WillDelay, c.delay)})
				f.deny(c.denied)
				c.end(f, w)
				synctest.Wait()
				f.deny(c.later)
				time.Sleep(time.Minute)
				f.stop()
				if want := map[bool]int{true: 1}[c.wants]; len(wills) != want {
					t.Errorf("%d wills were published, want %d", len(wills), want)
				}
				if n := f.Stats().RefusedWills; (n == 1) == c.wants || n > 1 {
					t.Errorf("%d wills are counted as refused", n)
				}
				if said := strings.Contains(log.String(), "will is not published"); said == c.wants {
					t.Errorf("the log has %q", log.String())
				}
			})
		})
	}
}

func (f *fixture) deny(what string) {
	f.policy.mu.Lock()
	defer f.policy.mu.Unlock()
	f.policy.deny[what] = true
}
