package device

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/budget"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/health"
)

// openBudget follows openClock, who says which month it is.
func (a *Agent) openBudget() {
	c := &a.cfg.Budget
	a.meter = budget.Open(budget.Options{Path: filepath.Join(a.cfg.DataDir, "budget.json"), Monthly: int64(c.Monthly),
		Day: int(c.Day), Log: a.log, Now: func() (time.Time, bool) {
			st := a.clock.Status()
			return st.Now, st.Known
		}})
	a.meter.Status() // the level is right before anything is sent
	if c.Used == config.BudgetWaits {
		a.queue.meter = a.meter
	}
}

// dial opens the uplink's connections, which are counted.
func (a *Agent) dial() budget.Dial {
	if a.deps.Dial != nil {
		return a.meter.Count(a.deps.Dial)
	}
	return a.meter.Count((&net.Dialer{}).DialContext)
}

// keepBudget counts, and flushes more rarely while the device has to be sparing:
// larger batches say the same in fewer bytes.
func (a *Agent) keepBudget(ctx context.Context) error {
	var counting sync.WaitGroup
	defer counting.Wait()
	counting.Go(func() { _ = a.meter.Run(ctx) })
	for {
		_, changed := a.meter.Level()
		a.spool.SetFlushEvery(a.flushEvery())
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// flushEvery is the interval of flushes now.
func (a *Agent) flushEvery() time.Duration {
	cfg := a.config()
	every := time.Duration(cfg.Spool.FlushEvery)
	if level, _ := a.meter.Level(); level != budget.Plenty {
		every = max(every, time.Duration(min(cfg.Budget.FlushEvery, cfg.Spool.MaxLoss)))
	}
	return every
}

// BudgetStatus is what is left of the month's bytes.
type BudgetStatus struct {
	Monthly  int64        `json:"monthly_bytes"`
	Used     int64        `json:"used_bytes"`
	Left     int64        `json:"left_bytes"`
	Forecast int64        `json:"forecast_bytes,omitempty"` // at the end; absent while nobody can tell
	Ends     time.Time    `json:"ends,omitzero"`            // absent while the time is not known
	Level    budget.Level `json:"level"`                    // plenty, sparse, used
	Flush    float64      `json:"flush_every_seconds"`
	Waits    bool         `json:"waits"` // batches wait in the spool: nothing is left
}

func (a *Agent) budgetStatus(cfg *config.Config, st *budget.Status) *BudgetStatus {
	if cfg.Budget.Monthly == 0 {
		return nil
	}
	return &BudgetStatus{Monthly: int64(cfg.Budget.Monthly), Used: st.Used, Left: st.Left, Forecast: st.Forecast,
		Ends: st.Ends, Level: st.Level, Flush: a.flushEvery().Seconds(),
		Waits: st.Level == budget.Used && cfg.Budget.Used == config.BudgetWaits}
}

func budgetMetrics(m *health.Metrics, st *Status) {
	m.Family("tidemill_agent_link_bytes_total", "counter",
		"Bytes of the uplink's connections since the start, TLS included.")
	m.Sample("tidemill_agent_link_bytes_total", float64(st.Link.BytesSent), "direction", "sent")
	m.Sample("tidemill_agent_link_bytes_total", float64(st.Link.BytesReceived), "direction", "received")
	b := st.Budget
	if b == nil {
		return
	}
	m.One("tidemill_agent_budget_bytes", "gauge", "What the link may take in a month.", float64(b.Monthly))
	m.One("tidemill_agent_budget_used_bytes", "gauge", "What it has taken in this month.", float64(b.Used))
	m.One("tidemill_agent_budget_forecast_bytes", "gauge",
		"What it will have taken at the month's end, 0 while nobody can tell.", float64(b.Forecast))
	m.One("tidemill_agent_budget_sparse", "gauge", "1 while flushes are rarer, since what is left does not suffice.",
		flag(b.Level != budget.Plenty))
}

// affordable waits until there is something left of the budget.
func affordable(ctx context.Context, m *budget.Meter) error {
	for m != nil {
		level, changed := m.Level()
		if level != budget.Used {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
