package device

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/spool"
)

const (
	sector = 512 // bytes, in /sys/block/*/stat and size, whatever the device has (Documentation/block/stat.rst)

	// rateAfter is how long is measured before what a day takes is told.
	rateAfter = 10 * time.Minute
)

// WriteStatus is what is written, and how long the card lasts.
type WriteStatus struct {
	// By this process since the start, by the kernel (write_bytes in /proc/PID/io,
	// less what was never written): of all its files, without the journal of the file
	// system. Nothing where the kernel does not tell.
	Bytes      *int64  `json:"bytes,omitempty"`
	PerReading float64 `json:"bytes_per_reading,omitempty"`
	PerDay     float64 `json:"bytes_per_day,omitempty"` // after ten minutes
	MaxPerDay  int64   `json:"max_bytes_per_day,omitempty"`

	Card *CardStatus `json:"card,omitempty"` // what data_dir is on; nil: not known
}

// CardStatus is the whole device that data_dir is on, with all that is written to it by
// others and by the file system.
type CardStatus struct {
	Name     string  `json:"name"` // such as mmcblk0
	Capacity int64   `json:"capacity_bytes"`
	Bytes    int64   `json:"bytes"`                   // written since the agent's start
	PerDay   float64 `json:"bytes_per_day,omitempty"` // after ten minutes

	// Years until each cell was written so often, at PerDay: evenly, and once for each
	// byte that the device is told to write, which no card reaches.
	Years  float64 `json:"life_years,omitempty"`
	Cycles int64   `json:"cycles"` // card.cycles, assumed or of the card's data sheet

	Used     string `json:"life_used,omitempty"`     // what an eMMC says of itself, "10 to 20 %"
	Reserved string `json:"reserve_state,omitempty"` // normal, warning, urgent
}

// A writeCounter counts from the agent's start.
type writeCounter struct {
	proc, sys string // "/proc/self/io", "/sys"
	block     string // folder of the card, "" for none
	since     time.Time
	own, card int64
}

func newWriteCounter(proc, sys, dataDir string) writeCounter {
	c := writeCounter{proc: proc, sys: sys, since: time.Now()}
	var st syscall.Stat_t
	if syscall.Stat(dataDir, &st) == nil {
		c.block = c.find(uint64(st.Dev))
	}
	c.own, _ = c.written()
	c.card, _ = c.cardWritten()
	return c
}

// find returns the folder of the device that a partition is of.
func (c *writeCounter) find(dev uint64) string {
	// As makedev(3) has it.
	major, minor := dev>>8&0xfff|dev>>32&^0xfff, dev&0xff|dev>>12&^0xff
	at, err := filepath.EvalSymlinks(fmt.Sprintf("%s/dev/block/%d:%d", c.sys, major, minor))
	if err != nil {
		return "" // a tmpfs, or one file system of several devices
	}
	if _, err := os.Stat(filepath.Join(at, "partition")); err == nil {
		at = filepath.Dir(at)
	}
	return at
}

// written returns the bytes that this process has written so far.
func (c *writeCounter) written() (n int64, ok bool) {
	text, err := os.ReadFile(c.proc)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ": ")
		v, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		switch {
		case err != nil:
		case name == "write_bytes":
			n, ok = n+v, true
		case name == "cancelled_write_bytes":
			n -= v
		}
	}
	return n, ok
}

// cardWritten returns the bytes that the card was told to write so far.
func (c *writeCounter) cardWritten() (int64, bool) {
	f := strings.Fields(c.text("stat"))
	if len(f) < 7 {
		return 0, false
	}
	n, err := strconv.ParseInt(f[6], 10, 64)
	return n * sector, err == nil
}

// text is a file of the card's folder.
func (c *writeCounter) text(name string) string {
	if c.block == "" {
		return ""
	}
	b, _ := os.ReadFile(filepath.Join(c.block, name))
	return strings.TrimSpace(string(b))
}

func (c *writeCounter) status(now time.Time, readings uint64, cycles, most int64) WriteStatus {
	st := WriteStatus{MaxPerDay: most}
	perDay := func(n int64) float64 {
		if now.Sub(c.since) < rateAfter {
			return 0
		}
		return float64(n) / now.Sub(c.since).Hours() * 24
	}
	if n, ok := c.written(); ok {
		n -= c.own
		st.Bytes, st.PerDay = &n, perDay(n)
		if readings > 0 {
			st.PerReading = float64(n) / float64(readings)
		}
	}
	n, ok := c.cardWritten()
	if !ok {
		return st
	}
	n -= c.card
	sectors, _ := strconv.ParseInt(c.text("size"), 10, 64)
	st.Card = &CardStatus{Name: filepath.Base(c.block), Capacity: sectors * sector, Bytes: n, PerDay: perDay(n),
		Cycles: cycles}
	if d := st.Card.PerDay; d > 0 {
		st.Card.Years = float64(st.Card.Capacity) * float64(cycles) / d / 365.25
	}
	st.Card.Used, st.Card.Reserved = c.emmc()
	return st
}

// emmc is what an eMMC from version 5.0 on says: EXT_CSD's DEVICE_LIFE_TIME_EST_TYP_A and
// _B, of which the worse counts, and PRE_EOL_INFO (JEDEC JESD84-B51, 7.4).
func (c *writeCounter) emmc() (used, reserve string) {
	worst := int64(0)
	for _, f := range strings.Fields(c.text("device/life_time")) {
		if v, err := strconv.ParseInt(f, 0, 64); err == nil {
			worst = max(worst, v)
		}
	}
	switch {
	case worst >= 1 && worst <= 10:
		used = fmt.Sprintf("%d to %d %%", worst*10-10, worst*10)
	case worst == 11:
		used = "more than 100 %"
	}
	state, _ := strconv.ParseInt(c.text("device/pre_eol_info"), 0, 64)
	return used, map[int64]string{1: "normal", 2: "warning", 3: "urgent"}[state]
}

// LossStatus is what a power cut costs.
type LossStatus struct {
	// Seconds of readings would be lost now: since the oldest in memory was taken.
	Seconds float64 `json:"seconds"`
	// Bound is the interval that holds now, beside the time that a flush takes; absent
	// while the disk cannot be written.
	Bound  float64 `json:"bound_seconds,omitempty"`
	Wanted float64 `json:"flush_every_seconds"`
	// GivesWay is flush_every where it is longer to keep max_writes, max_writes where it
	// is not kept either, since spool.max_loss bounds that.
	GivesWay string `json:"gives_way,omitempty"`
}

func lossStatus(sp *spool.Stats, now time.Time) LossStatus {
	l := sp.Loss
	out := LossStatus{Wanted: l.Every.Seconds()}
	if !l.Since.IsZero() {
		out.Seconds = now.Sub(l.Since).Seconds()
	}
	if sp.Failure == nil {
		out.Bound = l.Interval.Seconds()
	}
	switch {
	case l.Over:
		out.GivesWay = "max_writes"
	case l.Interval > l.Every:
		out.GivesWay = "flush_every"
	}
	return out
}

// writeMetrics are what WriteStatus and LossStatus say.
func writeMetrics(m *health.Metrics, w *WriteStatus, l *LossStatus) {
	if w.Bytes != nil {
		m.One("tidemill_agent_written_bytes_total", "counter", "Bytes written to disks by the agent, by the kernel.",
			float64(*w.Bytes))
	}
	if c := w.Card; c != nil {
		m.One("tidemill_agent_card_written_bytes_total", "counter",
			"Bytes written to the device of data_dir since the agent's start, by anybody.", float64(c.Bytes))
		if c.Years > 0 {
			m.One("tidemill_agent_card_life_years", "gauge",
				"Years until card.cycles are used up at the rate since the agent's start.", c.Years)
		}
	}
	m.One("tidemill_agent_loss_seconds", "gauge", "Age of the oldest reading that a power cut would lose.", l.Seconds)
	m.One("tidemill_agent_flush_interval_seconds", "gauge", "Time between flushes that holds now.", l.Bound)
	m.One("tidemill_agent_max_writes_exceeded", "gauge", "1 while spool.max_writes is not kept.",
		flag(l.GivesWay == "max_writes"))
}
