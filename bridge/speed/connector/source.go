package connector

import (
	"context"
	"errors"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Shard is one of a source's stream.
type Shard struct {
	ID      string
	Parents []string
	Range   streams.Range
}

// A Record is one as the stream has it: perhaps a container of many.
type Record struct {
	Sequence string
	Key      string
	Time     time.Time
	Data     []byte
}

func (r *Record) position() Position { return Position{Sequence: r.Sequence} }

// A Page is what one read of a shard gave.
type Page struct {
	Records []Record
	Behind  time.Duration // of the last record, behind the tip of the shard
	End     bool          // nothing comes after it: the shard is closed
}

// A Source is a stream that is read.
type Source interface {
	// Name is the stream's.
	Name() string
	// Shards lists all shards that records can be had of, closed ones too.
	Shards(ctx context.Context) ([]Shard, error)
	// Read begins at a position: with the record of its number, if it is one.
	Read(shard string, from Position) Reader
}

// A Reader reads one shard, for one goroutine.
type Reader interface {
	// Next waits for records until ctx ends, whose error it then returns: what
	// comes next is the same as if it had not been called. A page may be empty.
	Next(ctx context.Context) (Page, error)
}

// Errors of sources.
var (
	errThrottled = errors.New("the stream gives no more records now") // ask later
	errExpired   = errors.New("the iterator expired")
	errGone      = errors.New("the stream or shard is gone")
)

// A client is what a Source needs of the Kinesis API, ours or a remote one.
type client interface {
	shards(ctx context.Context) ([]Shard, error)
	// iterator is for the record of position from and what follows.
	iterator(ctx context.Context, shard string, from Position) (string, error)
	// records are those at an iterator; next is "" at the end of the shard.
	records(ctx context.Context, shard, iterator string) (p Page, next string, err error)
	// idle waits until it is worth asking again after a page. mark is what tip
	// gave before that was asked for.
	tip(shard string) (mark uint64)
	idle(ctx context.Context, shard string, last *Page, mark uint64) error
}

// polling is the Source that a client makes.
type polling struct {
	client
	name string
}

func (p *polling) Name() string { return p.name }

func (p *polling) Shards(ctx context.Context) ([]Shard, error) { return p.shards(ctx) }

func (p *polling) Read(shard string, from Position) Reader {
	return &pollingReader{client: p.client, shard: shard, at: from}
}

type pollingReader struct {
	client client
	shard  string
	at     Position // where it began, or the last record that was had
	had    bool     // at was had: it is passed over if it comes again
	next   string   // iterator; "": to be asked for
	last   *Page    // the last page, whose tip is to be waited for
	mark   uint64
	fails  int // throttled in a row
}

// throttledWait is how long a refusal for rate is answered by waiting: doubled
// at each, up to the most.
const (
	throttledWait     = 500 * time.Millisecond
	throttledWaitMost = 10 * time.Second
)

func (r *pollingReader) Next(ctx context.Context) (Page, error) {
	for {
		if r.last != nil {
			if err := r.client.idle(ctx, r.shard, r.last, r.mark); err != nil {
				return Page{}, err
			}
			r.last = nil
		}
		p, err := r.ask(ctx)
		switch {
		case err == nil:
			r.fails = 0
			if !p.End {
				r.last = &p
			}
			return p, nil
		case errors.Is(err, errExpired):
			r.next = ""
		case errors.Is(err, errThrottled):
			if err := sleep(ctx, jitter(min(throttledWait<<min(r.fails, 10), throttledWaitMost))); err != nil {
				return Page{}, err
			}
			r.fails++
		default:
			r.next = "" // it may be of that
			return Page{}, err
		}
	}
}

func (r *pollingReader) ask(ctx context.Context) (Page, error) {
	if r.next == "" {
		var err error
		if r.next, err = r.client.iterator(ctx, r.shard, r.at); err != nil {
			return Page{}, err
		}
	}
	r.mark = r.client.tip(r.shard)
	p, next, err := r.client.records(ctx, r.shard, r.next)
	if err != nil {
		return Page{}, err
	}
	if r.had && len(p.Records) > 0 && p.Records[0].Sequence == r.at.Sequence {
		p.Records = p.Records[1:]
	}
	if n := len(p.Records); n > 0 {
		r.at, r.had = Position{Sequence: p.Records[n-1].Sequence}, true
	}
	r.next, p.End = next, next == ""
	return p, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
