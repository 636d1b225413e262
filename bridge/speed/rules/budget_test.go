package rules

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

// slowShadows answer after a time.
type slowShadows struct {
	takes time.Duration
	calls int
}

func (s *slowShadows) Shadow(ctx context.Context, _, _ string) ([]byte, error) {
	s.calls++
	time.Sleep(s.takes)
	return []byte(`{"v":1}`), nil
}

// A rule that asks a slow service holds its worker for ruleBudget and then a
// tenth of the time; it goes on with Undefined meanwhile.
func TestSlowRuleHoldsItsWorkerForItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, vfs.NewMem())
		shadows := &slowShadows{takes: 500 * time.Millisecond}
		var all []*Rule
		for name, sql := range map[string]string{
			"slow": `SELECT n, get_thing_shadow('x', 'r').v AS v FROM 'dt/#'`,
			"fast": `SELECT n FROM 'dt/#'`,
		} {
			rule, err := (&Compiler{Catalog: r, Services: &iotsql.Services{Shadows: shadows}}).Parse(name,
				[]byte(toOut(sql)))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rule)
		}
		if err := r.e.Set(all); err != nil {
			t.Fatal(err)
		}
		r.run()
		const messages = 500
		began := time.Now()
		for range messages {
			r.publish("dt/a", `{"n":1}`)
		}
		out := r.records("out", 2*messages)
		took := time.Since(began)
		r.stop()
		if len(out) != 2*messages {
			t.Fatalf("%d outputs, want %d", len(out), 2*messages)
		}
		if took < ruleBudget || took > ruleBudget+2*time.Second {
			t.Errorf("%d messages took %v, want about %v", messages, took, ruleBudget)
		}
		asked := 0
		for _, doc := range out {
			if strings.Contains(doc, `"v":1`) {
				asked++
			}
		}
		if asked != shadows.calls || asked < 10 || asked > 12 {
			t.Errorf("%d outputs with an answer, %d calls, want about %d", asked, shadows.calls,
				ruleBudget/shadows.takes)
		}
	})
}

// Quick calls are not bounded, and neither are the rules that wait for none.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		slow, other, third, quick := &Rule{}, &Rule{}, &Rule{}, &Rule{}
		call := func(r *Rule, takes time.Duration) bool {
			g.rule = r
			if g.Enter() != nil {
				return false
			}
			time.Sleep(takes)
			g.Leave(takes)
			return true
		}
		for range 10_000 {
			if !call(quick, slowCall-1) {
				t.Fatal("a quick call is refused")
			}
		}
		calls := func(r *Rule) (n int) {
			for call(r, time.Second) {
				n++
			}
			return n
		}
		if n := calls(slow); n != 6 { // a tenth of 5 s passed away meanwhile
			t.Errorf("%d calls of 1 s, want 6", n)
		}
		if n := calls(other); n != 6 {
			t.Errorf("%d calls of another rule, want 6", n)
		}
		if !call(quick, time.Millisecond) {
			t.Error("a rule that waited for nobody is refused")
		}
		for range 3 {
			call(third, 2*time.Second)
		}
		if n := calls(third); n != 0 { // the worker has waited enough for all
			t.Errorf("%d calls of a third rule, want 0", n)
		}
		// In the long run it is a tenth of the time for one.
		began, waited := time.Now(), time.Duration(0)
		for time.Since(began) < 10*time.Minute {
			if call(slow, time.Second) {
				waited += time.Second
			}
			time.Sleep(10 * time.Millisecond)
		}
		if part := waited.Seconds() / time.Since(began).Seconds(); part < 0.08 || part > 0.11 {
			t.Errorf("a slow rule waits for %.3f of the time, want a tenth", part)
		}
		// And a quarter for many.
		many := make([]*Rule, 20)
		for i := range many {
			many[i] = &Rule{}
		}
		began, waited = time.Now(), 0
		for time.Since(began) < 20*time.Minute {
			for _, r := range many {
				if call(r, time.Second) {
					waited += time.Second
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if part := waited.Seconds() / time.Since(began).Seconds(); part < 0.2 || part > 0.3 {
			t.Errorf("slow rules wait for %.3f of the time, want a quarter", part)
		}
		time.Sleep(time.Hour)
		call(slow, time.Second)
		if len(g.rules) != 1 {
			t.Errorf("%d debts are kept, want 1", len(g.rules))
		}
	})
}
