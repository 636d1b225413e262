// Package delivery is the one engine that moves the log into stores. An outbox of
// a rule, a delivery stream and a shard of a connector are configurations of it.
//
// A delivery is a range of records that is cut, made durable if its name depends on
// it, transformed, and handed to a sink under a name that a repetition has again. A
// Line does deliveries one after the other: it sends the items of a Job, those that
// were refused again and only those, until each is done or given up, and settles
// them in their order: what was given up is kept elsewhere, and the position moves.
// A Drain is a Line over a stream of the log, with the position that it moves.
//
// Caveats:
//   - What is durable when, what is repeated after a crash, and what is bounded
//     stands in README.md; bytes on disk are in FORMAT.md.
//   - A retry window is one of this process: a restart begins it anew.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// Later is the Err of a Refusal that is none: the item was not sent, since one
// before it comes first or too much is staged already.
var Later = errors.New("delivery: not sent yet") //lint:ignore ST1012 it is no failure

// ErrAbandon marks an error of Send that ends the job, unsettled: its range is to be
// planned anew.
var ErrAbandon = errors.New("delivery: abandoned")

// A Job is one delivery.
type Job struct {
	// Items are answered for each by itself; 0 is a job with nothing to send.
	Items int

	// Ordered says that Send ends with the first item that is to be sent again: the
	// waits for another one begin anew.
	Ordered bool

	// Send tries to deliver the items of idx, ascending, and tells which the sink
	// did not take. An error says that the sink could not be asked, or that it is not
	// known what it took: all of idx is sent again. Its context ends after 15 minutes,
	// when the sink has taken what it was sent and answers nothing.
	Send func(ctx context.Context, idx []int) ([]sink.Refusal, error)

	// Enough says that an item has been tried for long enough and is given up. It
	// is asked after each attempt that failed. nil: it never is, and neither is one
	// that was refused for ever, for there is no place to keep it.
	Enough func(item int, f *Failing) bool

	// OutagesCount says that Enough is asked too when the sink could not be asked.
	OutagesCount bool

	// Settle makes durable that the items below to are done but for those given up,
	// ascending; it is called with growing to, the last time with Items. Those that
	// were settled before are not among given. When it fails the job ends.
	Settle func(ctx context.Context, to int, given []sink.Refusal) error

	// Answered is told of each attempt at which the sink answered: the items that were
	// sent and those that it refused, both ascending. nil: nobody is.
	Answered func(sent []int, refused []sink.Refusal)

	// Again is told of what will be sent again; nil: nobody is.
	Again func(refused []sink.Refusal)
}

// An Outage is a failure of an attempt at which the sink could not be asked, or made
// no sense.
type Outage struct{ Err error }

// Error implements error.
func (o *Outage) Error() string { return o.Err.Error() }

// Unwrap returns the cause.
func (o *Outage) Unwrap() error { return o.Err }

// Failing is how long an item has not got in.
type Failing struct {
	Tries  int           // failed attempts
	Since  time.Time     // of the first of them
	Began  time.Time     // when the job did
	Down   time.Time     // since when no attempt of the line got anything in
	Waited time.Duration // between attempts, so without the time that they took
}

// A progress is how far a job is.
type progress struct {
	*Job
	left    []int // not done and not given up, ascending
	failing map[int]*Failing
	given   []sink.Refusal // not settled, ascending
	settled int
	began   time.Time
	waited  time.Duration
}

// Do does one delivery. It returns nil when all is settled; an error when ctx ended,
// Send abandoned the job, or Settle failed: then what is not settled is to be
// delivered again. One goroutine calls it.
func (l *Line) Do(ctx context.Context, j *Job) error {
	p := &progress{Job: j, failing: map[int]*Failing{}, began: time.Now()}
	for i := range j.Items {
		p.left = append(p.left, i)
	}
	if j.Items == 0 {
		return j.Settle(ctx, 0, nil)
	}
	wait := l.retry.BackOff()
	for len(p.left) > 0 {
		again, moved, err := l.attempt(ctx, p)
		if err := p.settle(ctx); err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil && len(p.left) > 0:
			return context.Cause(ctx)
		case errors.Is(err, ErrAbandon):
			l.failed(err)
			return err
		case len(p.left) == 0 || err == nil && len(again) == 0:
			continue
		}
		if moved && j.Ordered {
			wait.Reset()
		}
		began := time.Now()
		if err := l.pause(ctx, wait.NextBackOff(), err); err != nil {
			return err
		}
		p.waited += time.Since(began)
	}
	l.succeeded()
	return nil
}

// attempt sends what is left. It returns what is to be sent again after a wait;
// moved, that something was done or given up; and what went wrong.
func (l *Line) attempt(ctx context.Context, p *progress) (again []sink.Refusal, moved bool, err error) {
	l.note(func(s *Status) { s.Attempts++ })
	refused, err := p.send(ctx)
	if err == nil {
		refused, err = p.check(refused)
	}
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrAbandon) {
			return nil, false, err
		}
		refused, err = refused[:0], &Outage{err}
		for _, i := range p.left {
			refused = append(refused, sink.Refusal{Index: i, Err: err})
		}
	} else if p.Answered != nil && ctx.Err() == nil {
		p.Answered(p.left, refused)
	}
	left := make([]int, 0, len(refused))
	for _, r := range refused {
		left = append(left, r.Index)
	}
	if len(left) < len(p.left) {
		l.gotIn()
	}
	if ctx.Err() != nil { // what was refused may be of that
		p.left = left
		return nil, false, err
	}
	given, again := l.judge(p, refused, err != nil && !p.OutagesCount)
	p.given = append(p.given, given...)
	slices.SortFunc(p.given, byIndex)
	left = slices.DeleteFunc(left, func(i int) bool {
		_, up := slices.BinarySearchFunc(given, i, func(r sink.Refusal, i int) int { return r.Index - i })
		return up
	})
	moved = len(left) < len(p.left)
	p.left = left
	if len(again) > 0 {
		if p.Again != nil {
			p.Again(again)
		}
		if err == nil {
			err = fmt.Errorf("%d of %d items were refused: %w", len(again), p.Items, again[0].Err)
			if p.Items == 1 {
				err = again[0].Err
			}
		}
	}
	return again, moved, err
}

// attemptTime bounds one attempt: a load into a warehouse may take minutes.
const attemptTime = 15 * time.Minute

// send is one Send, in its time.
func (p *progress) send(ctx context.Context) ([]sink.Refusal, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	return p.Send(ctx, p.left)
}

// judge parts what was refused into what is given up and what is sent again; what
// was not sent is in neither.
func (l *Line) judge(p *progress, refused []sink.Refusal, outage bool) (given, again []sink.Refusal) {
	now, down := time.Now(), l.downSince()
	for _, r := range refused {
		if errors.Is(r.Err, Later) {
			continue
		}
		f := p.failing[r.Index]
		if f == nil {
			f = &Failing{Since: now, Began: p.began}
			p.failing[r.Index] = f
		}
		f.Down, f.Waited = down, p.waited
		if !outage {
			f.Tries++
		}
		if p.Enough != nil && !outage && (r.Permanent || p.Enough(r.Index, f)) {
			given = append(given, r)
		} else {
			again = append(again, r)
		}
	}
	return given, again
}

func byIndex(a, b sink.Refusal) int { return a.Index - b.Index }

// check sorts what a sink says it refused. What it cannot have meant is an error: it
// is not known then what it took.
func (p *progress) check(refused []sink.Refusal) ([]sink.Refusal, error) {
	slices.SortStableFunc(refused, byIndex)
	refused = slices.CompactFunc(refused, func(a, b sink.Refusal) bool { return a.Index == b.Index })
	later := 0
	for _, r := range refused {
		if _, sent := slices.BinarySearch(p.left, r.Index); !sent || r.Err == nil {
			return nil, fmt.Errorf("the sink says that item %d of %d failed: %v", r.Index, p.Items, r.Err)
		}
		if errors.Is(r.Err, Later) {
			later++
		}
	}
	if later > 0 && later == len(p.left) {
		return nil, errors.New("the sink sent nothing")
	}
	return refused, nil
}

// settle settles what is dealt with, up to the first item that is not.
func (p *progress) settle(ctx context.Context) error {
	to := p.Items
	if len(p.left) > 0 {
		to = p.left[0]
	}
	if to == p.settled {
		return nil
	}
	n := 0
	for n < len(p.given) && p.given[n].Index < to {
		n++
	}
	given := p.given[:n:n]
	p.given, p.settled = p.given[n:], to
	return p.Settle(ctx, to, given)
}
