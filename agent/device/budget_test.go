package device

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/agent/budget"
	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/hal/sim"
)

// Twelve hours before the month's end a device has a hundredth of its budget left: it
// flushes more rarely, then has nothing left, and its batches wait in the spool until the
// next month, when all of them arrive.
func TestBudgetIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in2027()
		ends := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(ends.Add(-12 * time.Hour)))
		c := newCloud(t, "{}")
		cfg := clocklessConfig(t, t.TempDir())
		cfg.Uplink.KeepAlive = config.Duration(20 * time.Minute)
		cfg.Budget = config.Budget{Monthly: 1e6, Day: 1, FlushEvery: config.Duration(5 * time.Minute),
			Used: config.BudgetWaits}
		err := os.WriteFile(filepath.Join(cfg.DataDir, "budget.json"), []byte(
			`{"version":1,"period":"2027-02-01T00:00:00Z","since":"2027-02-01T00:00:00Z","used":990000}`), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		d, began := c.deps(sim.New(sim.Options{})), time.Now()
		d.NoSocket, d.Boot = true, "a"
		d.Clock = func() kernel.Reading {
			return kernel.Reading{Wall: time.Now(), Boot: time.Minute + time.Since(began), Synced: true,
				MaxError: time.Millisecond}
		}
		a, err := New(cfg, d)
		if err != nil {
			t.Fatal(err)
		}
		stop := start(t, a)
		time.Sleep(time.Hour)
		st := a.Status()
		b := st.Budget
		if b == nil || b.Level != budget.Sparse || b.Flush != 300 || b.Waits || !b.Ends.Equal(ends) ||
			c.got() < 11 || c.got() > 13 ||
			b.Used != 990_000+st.Link.BytesSent+st.Link.BytesReceived || b.Left+b.Used != 1e6 || b.Forecast <= b.Used {
			t.Errorf("%+v, %+v, %d batches came", b, st.Link, c.got())
		}
		time.Sleep(10*time.Hour + 50*time.Minute)
		if st := a.Status(); !st.Budget.Waits || st.Spool.Batches < 12 || st.Link.State != "online" {
			t.Errorf("%+v, %+v, %+v", st.Budget, st.Spool, st.Link)
		}
		time.Sleep(30 * time.Minute)
		st = a.Status()
		if st.Budget.Level != budget.Plenty || st.Budget.Flush != 60 || st.Budget.Used > 50_000 ||
			st.Spool.Batches > 1 || st.Spool.Dropped+st.Spool.Refused > 0 {
			t.Errorf("%+v, %+v", st.Budget, st.Spool)
		}
		stop()
		c.wg.Wait()
		readings := 0
		for _, b := range c.batches {
			readings += b.Readings()
		}
		if readings < 12*360 {
			t.Errorf("%d readings came", readings)
		}
		text, err := os.ReadFile(filepath.Join(cfg.DataDir, "budget.json"))
		if err != nil || len(text) == 0 {
			t.Errorf("%s, %v", text, err)
		}
	})
}
