package backup

import (
	"errors"
	"math"
	"runtime"
	"testing"
	"time"
)

// The share of a processor that a backup takes grows while some idle, and shrinks to
// leastShare while none do.
func TestYield(t *testing.T) {
	now, idle, all := time.Unix(0, 0), 0.0, 0.0
	var failed error
	y := &yielder{now: func() time.Time { return now }, share: leastShare, woke: now, looked: now}
	y.processors = func() (float64, float64, error) { return idle, all, failed }
	// work does so for 10 ms and waits, for as long as d; it returns the share that it had.
	work := func(d time.Duration, unused float64) float64 {
		worked := time.Duration(0)
		end := now.Add(d)
		began := now
		for now.Before(end) {
			now, worked = now.Add(10*time.Millisecond), worked+10*time.Millisecond
			all += 100
			idle += unused * 100 / float64(runtime.NumCPU())
			now = now.Add(y.pause())
			y.woke = now
		}
		return float64(worked) / float64(now.Sub(began))
	}
	if got := work(10*time.Second, 0); math.Abs(got-leastShare) > 0.01 {
		t.Errorf("nothing idles: %.2f, want %.2f", got, leastShare)
	}
	work(5*time.Second, 1)
	if got := work(time.Second, 1); got < 0.99 {
		t.Errorf("one idles: %.2f, want 1", got)
	}
	if got := work(time.Second, (enough+few)/2); got < 0.99 {
		t.Errorf("some idle: %.2f, want as before", got)
	}
	work(5*time.Second, 0)
	if got := work(10*time.Second, 0); math.Abs(got-leastShare) > 0.01 {
		t.Errorf("nothing idles any more: %.2f, want %.2f", got, leastShare)
	}
	failed = errors.New("no /proc")
	work(time.Second, 0)
	if got := work(time.Second, 0); math.Abs(got-0.5) > 0.01 {
		t.Errorf("it is not known what idles: %.2f, want half", got)
	}
}

// Where there is a /proc/stat it can be read.
func TestProcessorTimes(t *testing.T) {
	idle, all, err := processorTimes()
	if runtime.GOOS == "linux" && (err != nil || all <= 0 || idle > all) {
		t.Error(idle, all, err)
	}
}
