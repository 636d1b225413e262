package backup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"time"
)

// A backup takes what the processors have left, and leastShare of one where they have
// nothing: README.md, Figures, has what it then reads in a second. It waits after each
// piece of a file, for maxYield at most. Our choices. A lower priority of its thread would
// be no help: Go's scheduler gives a thread one of GOMAXPROCS places, and a thread that the
// system lets wait keeps its place from others.
const (
	leastShare = 0.1
	maxYield   = 2 * time.Second
	// While more than enough processors idle the share grows by a step, a look each; with
	// fewer than few it is halved, so that others find some that idle.
	enough, few, step = 0.3, 0.15, 0.1
	// look is how long a look at the processors takes at least: they are counted in
	// hundredths of a second.
	look = 100 * time.Millisecond
)

// A yielder gives way to others. It is for one goroutine.
type yielder struct {
	processors func() (idle, all float64, err error) // time since the system started, any unit
	now        func() time.Time

	woke      time.Time // when the work since the last wait began
	looked    time.Time
	idle, all float64
	share     float64 // of one processor that may be used
}

func newYielder() *yielder {
	y := &yielder{processors: processorTimes, now: time.Now, share: leastShare}
	y.woke, y.looked = y.now(), y.now()
	y.idle, y.all, _ = y.processors()
	return y
}

// pause is for how long to wait after the work since the last call.
func (y *yielder) pause() time.Duration {
	now := y.now()
	work := now.Sub(y.woke)
	if now.Sub(y.looked) >= look {
		y.adjust()
		y.looked = now
	}
	return min(time.Duration(float64(work)*(1/y.share-1)), maxYield)
}

// adjust sets the share by what idled since the last look.
func (y *yielder) adjust() {
	idle, all, err := y.processors()
	if err != nil || all <= y.all {
		y.share = 0.5 // it is not known
		return
	}
	switch unused := (idle - y.idle) / (all - y.all) * float64(runtime.NumCPU()); {
	case unused > enough:
		y.share = min(y.share+step, 1)
	case unused < few:
		y.share = max(y.share/2, leastShare)
	}
	y.idle, y.all = idle, all
}

// yield waits.
func (y *yielder) yield(ctx context.Context) {
	wait(ctx, y.pause())
	y.woke = y.now()
}

// processorTimes reads what all processors did so far, proc_stat(5).
func processorTimes() (idle, all float64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var n [8]float64 // user, nice, system, idle, iowait, irq, softirq, steal
	_, err = fmt.Sscanf(string(line), "cpu %f %f %f %f %f %f %f %f", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6],
		&n[7])
	for _, v := range n {
		all += v
	}
	return n[3] + n[4], all, err
}
