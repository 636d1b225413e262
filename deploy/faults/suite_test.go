package faults

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/rig"
)

// each is how many records a row gets in a column.
const each = 24

// A cell is what became of the records of a row in a column.
type cell struct {
	lost, twice, kept int
	met               int // requests that met the fault
	skipped           string
}

func (c cell) String() string {
	if c.skipped != "" {
		return "–"
	}
	text := fmt.Sprintf("%d/%d", c.lost, c.twice)
	if c.kept > 0 {
		text += fmt.Sprintf(" (%d kept)", c.kept)
	}
	return text
}

// TestFaults has every row meet every fault, all rows at once, and counts what is
// lost and what is there twice. The gate runs some columns and rows; all are run with
// TIDEMILL_NIGHTLY. -v prints the table.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("whole programs are left out with -short")
	}
	nightly := os.Getenv("TIDEMILL_NIGHTLY") != ""
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	c := newCloud(t, ctx)
	all := rows(t, ctx, c, nightly)
	w := start(t, ctx, c, all, false)
	var columns []string
	cells := map[string][]cell{}
	for i, f := range faults {
		if only := os.Getenv("TIDEMILL_FAULT"); !nightly && !f.short || only != "" && only != f.name {
			continue
		}
		began, in := time.Now(), w
		if f.name == window {
			w.must(w.bridge.Stop(time.Minute))
			in = start(t, ctx, c, all, true)
		}
		columns = append(columns, f.name)
		column := in.column(f, (i+1)*1000)
		for n, c := range column {
			cells[all[n].name] = append(cells[all[n].name], c)
		}
		t.Logf("%s: %v in %v", f.name, column, time.Since(began).Round(time.Second))
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| lost/doubled of %d | %s |\n", each, strings.Join(columns, " | "))
	table.WriteString("|---" + strings.Repeat("|---", len(columns)) + "|\n")
	for _, r := range all {
		fmt.Fprintf(&table, "| %s", r.name)
		for _, c := range cells[r.name] {
			fmt.Fprintf(&table, " | %v", c)
		}
		table.WriteString(" |\n")
	}
	t.Logf("\n%s", table.String())
}

// column has all rows meet a fault. Nothing goes through while the records are put,
// so that there is a backlog.
func (w *world) column(f fault, from int) []cell {
	w.t.Helper()
	for _, r := range w.rows {
		r.meter.set(away, -1)
	}
	w.put(from, each)
	for _, r := range w.rows {
		if r.skip[f.name] != "" {
			r.meter.set(pass, 0)
		} else {
			r.meter.set(f.way, f.times)
		}
	}
	switch f.way {
	case before, after:
		w.until("every row has a request that is held", time.Minute, func() (bool, string) {
			for _, r := range w.rows {
				if _, held := r.meter.counts(); held == 0 && r.skip[f.name] == "" {
					return false, r.name
				}
			}
			return true, ""
		})
		w.kill()
	}
	w.drained(f.name)
	if f.name == window {
		w.lift()
		w.redrive()
		w.drained(f.name)
	}
	cells := make([]cell, len(w.rows))
	for i, r := range w.rows {
		met, _ := r.meter.counts()
		cells[i] = w.count(r, from)
		cells[i].met = met
		if why := r.skip[f.name]; why != "" {
			cells[i].skipped = why
		} else if met == 0 && f.way != before && f.way != after && f.name != window {
			w.t.Errorf("%s, %s: no request met the fault", f.name, r.name)
		}
		if c := cells[i]; c.lost > 0 || r.once && c.twice > 0 || c.kept > 0 && !f.final {
			w.t.Errorf("%s, %s: %d lost, %d twice, %d kept", f.name, r.name, c.lost, c.twice, c.kept)
		}
	}
	w.lift()
	return cells
}

// count says what became of the records from a number on.
func (w *world) count(r *row, from int) (c cell) {
	at, kept := map[int]int{}, map[int]bool{}
	for _, n := range r.got() {
		at[n]++
	}
	for _, n := range w.kept(r) {
		kept[n] = true
	}
	for n := from; n < from+each; n++ {
		switch {
		case at[n] == 0 && kept[n]:
			c.kept++
		case at[n] == 0:
			c.lost++
		default:
			c.twice += at[n] - 1
		}
	}
	return c
}

// drained waits until nothing waits in any outbox or delivery stream.
func (w *world) drained(after string) {
	w.t.Helper()
	w.until(after+": everything is delivered or kept", 5*time.Minute, func() (bool, string) {
		all, err := w.bridge.Metrics(w.ctx)
		if err != nil {
			return false, err.Error()
		}
		for name, n := range all {
			if n > 0 && (strings.HasPrefix(name, "tidemill_outbox_waiting{") ||
				strings.HasPrefix(name, "tidemill_delivery_waiting_records")) {
				return false, fmt.Sprint(name, " ", n)
			}
		}
		return true, ""
	})
}

// until waits for a state; what is told of it is told if it does not come.
func (w *world) until(what string, most time.Duration, ok func() (bool, string)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, most)
	defer cancel()
	told := ""
	err := rig.Until(ctx, what, func() (done bool, err error) {
		done, told = ok()
		return done, nil
	})
	if err != nil {
		w.t.Errorf("%v: %s", err, told)
	}
}
