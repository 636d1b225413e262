package quota

import (
	"fmt"
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	var b Bucket
	now := time.Unix(1000, 0)
	for _, step := range []struct {
		later time.Duration
		n     int
		want  time.Duration
	}{
		{0, 100, 0}, // a second's worth at once
		{0, 50, 500 * time.Millisecond},
		{250 * time.Millisecond, 0, 250 * time.Millisecond},
		{250 * time.Millisecond, 0, 0},
		{time.Hour, 100, 0}, // no more than a second's worth is saved
		{0, 100, time.Second},
	} {
		now = now.Add(step.later)
		if got := b.Take(now, step.n, 100); got != step.want {
			t.Errorf("%+v: wait %v", step, got)
		}
	}
	if b.Take(now, 1<<30, 0) != 0 {
		t.Error("no rate is a limit")
	}
}

func TestEach(t *testing.T) {
	e := NewEach(10, 1000)
	now := time.Unix(1000, 0)
	if e.Take("a", now, 20, 1) != time.Second || e.Take("b", now, 10, 1000) != 0 ||
		e.Take("a", now, 0, 0) != time.Second || e.Take("b", now, 0, 500) != time.Second/2 {
		t.Error("names share a bucket")
	}
	for i := range 10 * minSweep { // spread over ten seconds
		e.Take(fmt.Sprint(i), now.Add(time.Duration(i)*time.Millisecond), 10, 1)
	}
	if n := len(e.buckets); n > 3*minSweep {
		t.Errorf("%d buckets are kept", n)
	}
	if NewEach(0, 0).Take("a", now, 1<<30, 1<<30) != 0 || NewEach(0, 10).Take("a", now, 1<<30, 1) != 0 {
		t.Error("no rate is a limit")
	}
}
