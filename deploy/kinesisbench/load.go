package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// puts is what a load came to.
type puts struct {
	records   int64
	wall, cpu time.Duration
}

func (p puts) rate() float64 { return float64(p.records) / p.wall.Seconds() }

// perRecord is the server's CPU time.
func (p puts) perRecord() time.Duration { return p.cpu / time.Duration(max(p.records, 1)) }

type entry struct {
	Data         []byte
	PartitionKey string
}

// requests are eight PutRecords of different records.
func (p *peer) requests(stream string, batch, size int) (all [][]byte, err error) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		entries := make([]entry, batch)
		for i := range entries {
			data := fmt.Appendf(nil, `{"thing":"pump-%03d","temp":%.3f,"pad":"`, rnd.IntN(500), rnd.Float64()*40)
			for len(data) < size {
				data = append(data, byte('a'+rnd.IntN(26)))
			}
			entries[i] = entry{data, fmt.Sprintf("pump-%03d", rnd.IntN(500))}
		}
		request, err := p.prepare("PutRecords", asJSON, map[string]any{"StreamName": stream, "Records": entries})
		if err != nil {
			return nil, err
		}
		all = append(all, request)
	}
	return all, nil
}

// each runs work on n connections at once until until and counts what it
// returns, with the CPU time of the server.
func (p *peer) each(ctx context.Context, n int, d time.Duration,
	work func(c *conn, worker, round int) (int, error)) (puts, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	before, err := p.cpu()
	if err != nil {
		return puts{}, err
	}
	var (
		count atomic.Int64
		wg    sync.WaitGroup
		errs  = make([]error, n)
		began = time.Now()
	)
	for w := range n {
		wg.Go(func() {
			c, err := p.dial()
			if err != nil {
				errs[w] = err
				return
			}
			defer c.Close()
			for round := 0; ctx.Err() == nil; round++ {
				got, err := work(c, w, round)
				count.Add(int64(got))
				if err != nil {
					errs[w] = err
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	wall := time.Since(began)
	after, err := p.cpu()
	return puts{count.Load(), wall, after - before}, errors.Join(append(errs, err)...)
}

// put sends PutRecords as fast as they are answered.
func (p *peer) put(ctx context.Context, stream string, batch, size int, d time.Duration) (puts, error) {
	requests, err := p.requests(stream, batch, size)
	if err != nil {
		return puts{}, err
	}
	return p.each(ctx, connections, d, func(c *conn, worker, round int) (int, error) {
		return batch, stored(c.send(requests[(worker+round)%len(requests)]))
	})
}

// stored is an error unless all records of a PutRecords were taken.
func stored(body []byte, err error) error {
	if err == nil && !bytes.Contains(body, []byte(`"FailedRecordCount":0`)) {
		err = fmt.Errorf("PutRecords: %.300s", body)
	}
	return err
}

// fill puts records until there are so many bytes.
func (p *peer) fill(ctx context.Context, stream string, size, total int) error {
	requests, err := p.requests(stream, 250, size)
	if err != nil {
		return err
	}
	c, err := p.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	for i := 0; i*250*size < total && ctx.Err() == nil; i++ {
		if err := stored(c.send(requests[i%len(requests)])); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// get reads each shard from its beginning again and again.
func (p *peer) get(ctx context.Context, stream string, enc encoding, size int, d time.Duration) (puts, error) {
	first, err := p.iterators(stream, enc)
	if err != nil {
		return puts{}, err
	}
	next := slices.Clone(first)
	return p.each(ctx, shards, d, func(c *conn, w, _ int) (int, error) {
		request, err := p.prepare("GetRecords", enc, map[string]any{"ShardIterator": next[w]})
		if err != nil {
			return 0, err
		}
		body, err := c.send(request)
		if err != nil {
			return 0, err
		}
		n := bytes.Count(body, []byte("SequenceNumber"))
		if next[w], err = enc.text(body, "NextShardIterator"); n == 0 {
			next[w] = first[w]
		}
		return n, err
	})
}

// iterators are of the beginnings of all shards.
func (p *peer) iterators(stream string, enc encoding) ([]string, error) {
	all := make([]string, shards)
	for i := range all {
		body, err := p.call("GetShardIterator", enc, map[string]any{"StreamName": stream,
			"ShardId": fmt.Sprintf("shardId-%012d", i), "ShardIteratorType": "TRIM_HORIZON"})
		if err != nil {
			return nil, err
		}
		if all[i], err = enc.text(body, "ShardIterator"); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// count reads all of a stream.
func (p *peer) count(ctx context.Context, stream string) (n int64, err error) {
	its, err := p.iterators(stream, asCBOR)
	if err != nil {
		return 0, err
	}
	c, err := p.dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for _, it := range its {
		for got := 1; got > 0 && ctx.Err() == nil; n += int64(got) {
			request, err := p.prepare("GetRecords", asCBOR, map[string]any{"ShardIterator": it})
			if err != nil {
				return 0, err
			}
			body, err := c.send(request)
			if err != nil {
				return 0, err
			}
			got = bytes.Count(body, []byte("SequenceNumber"))
			if it, err = asCBOR.text(body, "NextShardIterator"); err != nil {
				return 0, err
			}
		}
	}
	return n, ctx.Err()
}

// conns are connections that are kept for steady.
type conns []*conn

func (p *peer) dialAll(n int) (conns, error) {
	var all conns
	for range n {
		c, err := p.dial()
		if err != nil {
			all.close()
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func (cs conns) close() {
	for _, c := range cs {
		_ = c.Close() // only read from
	}
}

// steady makes a request whenever one is due, whether or not earlier ones are
// answered, and returns how long each took from then until its answer.
func (cs conns) steady(ctx context.Context, request []byte, perSecond int, d time.Duration) ([]time.Duration, error) {
	var (
		n     = int(d.Seconds() * float64(perSecond))
		took  = make([]time.Duration, n)
		due   = make(chan int, n)
		errs  = make([]error, len(cs))
		wg    sync.WaitGroup
		began = time.Now().Add(5 * time.Millisecond)
	)
	at := func(i int) time.Time { return began.Add(time.Duration(i) * time.Second / time.Duration(perSecond)) }
	wg.Go(func() {
		// Not time.Sleep: the runtime wakes up to a millisecond late.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(due)
		for i := 0; i < n && ctx.Err() == nil; i++ {
			if wait := time.Until(at(i)); wait > 0 {
				ts := unix.NsecToTimespec(int64(wait))
				_ = unix.Nanosleep(&ts, nil) // cut short by a signal, this one is early
			}
			due <- i
		}
	})
	for w, c := range cs {
		wg.Go(func() {
			for i := range due {
				if _, errs[w] = c.send(request); errs[w] != nil {
					return
				}
				took[i] = time.Since(at(i))
			}
		})
	}
	wg.Wait()
	return took, errors.Join(append(errs, ctx.Err())...)
}

// disk appends to a file and syncs it, again and again. It returns what each
// took, and what the answers to perSecond requests would have taken with
// nothing but the disk: each waits for the sync under way, then for its own.
func disk(dir string, d time.Duration, perSecond int) (took, answers []time.Duration, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "raw"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	page := make([]byte, 512)
	gap := time.Second / time.Duration(perSecond)
	for began, due := time.Now(), time.Duration(0); due < d; {
		at := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, nil, err
		}
		done := time.Now()
		took = append(took, done.Sub(at))
		for ; due < d && !at.Before(began.Add(due)); due += gap {
			answers = append(answers, done.Sub(began.Add(due)))
		}
	}
	return took, answers, nil
}

// percentiles are the 50th and the 99th.
func percentiles(took []time.Duration) [2]time.Duration {
	slices.Sort(took)
	at := func(share float64) time.Duration { return took[int(share*float64(len(took)-1))] }
	return [2]time.Duration{at(0.5), at(0.99)}
}
