package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
)

// Records have the members that Lambda's developer guide shows, and no others.
func TestRecords(t *testing.T) {
	e := &event{ID: "i", Function: "f", Payload: []byte(`{"a":1}`), Tries: 3}
	s := Settings{ARN: "arn:aws:lambda:eu-local-1:000000000000:function:f:$LATEST"}
	const begin = `{"requestContext":{"requestId":"i","functionArn":"arn:aws:lambda:eu-local-1:000000000000:function:f:$LATEST",` +
		`"condition":"%s","approximateInvokeCount":3},"requestPayload":{"a":1},`
	const end = `"timestamp":"2000-01-01T00:00:00.000Z","version":"1.0"}`
	for _, c := range []struct {
		r               *lambda.Result
		condition, want string
	}{
		{&lambda.Result{Payload: []byte(`{"b":2}`), Version: "$LATEST"}, succeeded,
			`"responseContext":{"executedVersion":"$LATEST","statusCode":200},"responsePayload":{"b":2},`},
		{failed, retriesExhausted, `"responseContext":{"executedVersion":"3","functionError":"Unhandled","statusCode":200},` +
			`"responsePayload":{"errorType":"T"},`},
		{nil, eventAgeExceeded, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			got, err := json.Marshal(outline(e, s, c.r, c.condition))
			if want := fmt.Sprintf(begin, c.condition) + c.want + end; string(got) != want || err != nil {
				t.Errorf("%s, %v, want %s", got, err, want)
			}
		})
	}
}

// destinations take records, by condition and payload; a test has them fail and hang.
type destinations struct {
	mu    sync.Mutex
	taken []string
	hang  bool // take no record until the bridge stops
	late  bool // take it, and hang then: the bridge stops before it knows
}

func (d *destinations) send(ctx context.Context, to, _ string, _ int, record []byte) error {
	d.mu.Lock()
	hang, late := d.hang, d.late
	if !hang {
		var doc struct {
			RequestContext struct{ Condition string }
			RequestPayload json.RawMessage
		}
		if err := json.Unmarshal(record, &doc); err != nil {
			panic(err) // ours
		}
		d.taken = append(d.taken, to+" "+doc.RequestContext.Condition+" "+string(doc.RequestPayload))
	}
	d.mu.Unlock()
	if hang || late {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// all are the records that were taken since it was asked last, and how often each.
func (d *destinations) all() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]int{}
	for _, r := range d.taken {
		all[r]++
	}
	d.taken = nil
	return all
}

// Wherever the bridge stops, each call has its record in the end: once, unless the bridge
// stopped between the record and what it notes of that.
func TestRecordsSurvive(t *testing.T) {
	for name, c := range map[string]struct {
		stop  func(s *site, d *destinations) // how the first run is kept from its end
		twice bool
	}{
		"not stopped": {func(*site, *destinations) {}, false},
		"in the call": {func(s *site, _ *destinations) {
			s.made.hang = func(lambda.Call) bool { return true }
		}, false},
		"before the record":     {func(_ *site, d *destinations) { d.hang = true }, false},
		"behind the record":     {func(_ *site, d *destinations) { d.late = true }, true},
		"nothing can be noted":  {func(s *site, _ *destinations) { s.log.failures = endTries + 1 }, true},
		"noted at the last try": {func(s *site, _ *destinations) { s.log.failures = endTries }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, d := newSite(t, func(_ int, c lambda.Call) (*lambda.Result, error) {
					if string(c.Payload) == `"fails"` {
						return failed, nil
					}
					return &lambda.Result{Payload: []byte("1")}, nil
				}), &destinations{}
				s.q.o.Settings = func(string, string) (Settings, error) {
					return Settings{MaxAge: time.Hour, OnFailure: "failures", OnSuccess: "results"}, nil
				}
				s.q.o.Send = d.send
				s.put(`"a"`, `"fails"`, `"b"`)
				c.stop(s, d)
				s.run(0)
				first := d.all()
				s.made.hang, s.log.failures = nil, 0
				d.mu.Lock()
				d.hang, d.late = false, false
				d.mu.Unlock()
				s.run(0)
				then := d.all()
				for _, want := range []string{`results Success "a"`, `failures RetriesExhausted "fails"`,
					`results Success "b"`} {
					n := first[want] + then[want]
					if n < 1 || n > 2 || n == 2 && !c.twice {
						t.Errorf("%s: %d times", want, n)
					}
					delete(first, want)
					delete(then, want)
				}
				if len(first)+len(then) > 0 {
					t.Error("others", first, then)
				}
				if p := s.log.at(t); p.low() != 3 {
					t.Errorf("position %v", p)
				}
			})
		})
	}
}

// A record that is too large for a destination is sent at once without what makes it so.
func TestFailureIsCut(t *testing.T) {
	for most, want := range map[int]string{1000: "responsePayload requestPayload", 300: "requestPayload", 200: "",
		10: "none"} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			sent := "none"
			q := New(Options{Slog: slog.New(slog.NewTextHandler(&log, nil)),
				Send: func(_ context.Context, _, _ string, _ int, record []byte) error {
					size := 170 // of what is never cut
					sent = ""
					for _, member := range []string{"responsePayload", "requestPayload"} {
						if strings.Contains(string(record), member) {
							size, sent = size+100, sent+" "+member
						}
					}
					if size > most {
						sent = "none"
						return fmt.Errorf("a function: %w", lambda.ErrTooLarge)
					}
					return nil
				}})
			began := time.Now()
			e := &event{ID: "i", Function: "f", Payload: []byte("{}")}
			if !q.fail(t.Context(), e, Settings{OnFailure: "arn"}, failed, "RetriesExhausted") {
				t.Error("not dealt with")
			}
			if strings.TrimSpace(sent) != want || !time.Now().Equal(began) {
				t.Errorf("at most %d: sent %q in %v", most, sent, time.Since(began))
			}
			cut := strings.Count(log.String(), "a member is left out")
			dropped := strings.Contains(log.String(), "is dropped")
			if cut != map[int]int{300: 1, 200: 2, 10: 2}[most] || dropped != (want == "none") {
				t.Errorf("at most %d: %s", most, log.String())
			}
		})
	}
}

// A destination that is there again later gets the record.
func TestFailureIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		q := New(Options{Slog: slog.New(slog.DiscardHandler),
			Send: func(context.Context, string, string, int, []byte) error {
				if n++; n < sendTries {
					return errors.New("the disk is full")
				}
				return nil
			}})
		e := &event{Payload: []byte("{}")}
		if !q.fail(t.Context(), e, Settings{OnFailure: "arn"}, nil, "EventAgeExceeded") || n != sendTries {
			t.Errorf("%d tries", n)
		}
	})
}

// Functions that are each other's destinations are called lambda.MaxDepth times; the
// record of the call that is not made any more goes to the destination of failures.
func TestLoopEnds(t *testing.T) {
	for name, failures := range map[string]string{"bucket": "bucket", "itself": "function"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, func(_ int, c lambda.Call) (*lambda.Result, error) {
					if c.Depth >= lambda.MaxDepth { // as a Manager does
						return nil, lambda.ErrLoop
					}
					return &lambda.Result{Payload: []byte("1")}, nil
				})
				s.q.o.Settings = func(string, string) (Settings, error) {
					return Settings{MaxAge: time.Hour, OnSuccess: "function", OnFailure: failures}, nil
				}
				var kept []string
				s.q.o.Send = func(ctx context.Context, to, _ string, depth int, record []byte) error {
					if to == "function" {
						_, err := s.q.Put(ctx, lambda.Call{Function: "f", Payload: record, Depth: depth})
						return err
					}
					kept = append(kept, string(record))
					return nil
				}
				s.put("1")
				for range 3 {
					s.run(time.Hour)
				}
				if n := len(s.made.made); n != lambda.MaxDepth+1 { // the last is refused
					t.Errorf("%d calls", n)
				}
				if p := s.log.at(t); p.low() != uint64(len(s.log.records)) {
					t.Errorf("position %v of %d", p, len(s.log.records))
				}
				if failures == "bucket" != (len(kept) == 1 && strings.Contains(kept[0], recursiveInvocation)) {
					t.Errorf("kept %.300q", kept)
				}
			})
		})
	}
}
