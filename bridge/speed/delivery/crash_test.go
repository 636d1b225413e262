package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/crashtest"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

const stream, failed = "s", "failed"

// A world is what outlives processes: the log, and what the sink has.
type world struct {
	*pebble.Store
	rand *rand.Rand // used within writes, while a process runs

	process        *crashtest.Process // of now
	calm           bool               // nothing dies or fails any more
	objects        map[string]string  // of planned deliveries, by name
	items          map[uint64]int     // how often the sink was handed an item and took it
	writes, deaths int
}

func (w *world) Commit(ctx context.Context, b *streams.Batch) error {
	return w.process.Do(func() error { return w.Store.Commit(context.WithoutCancel(ctx), b) })
}

// send is the sink: it takes all, or a part, refuses, hangs or lies.
func (w *world) send(ctx context.Context, offsets []uint64, take func(i int)) (refused []sink.Refusal, err error) {
	err = w.process.Do(func() error {
		mood := w.rand.IntN(8)
		if w.calm {
			mood = 0
		}
		switch mood {
		case 1:
			return errors.New("away")
		case 2: // hangs
			slow, cancel := context.WithTimeout(ctx, time.Minute)
			w.process.Wait(func() { <-slow.Done() })
			cancel()
			return errors.New("no answer in time")
		case 3: // lies
			for i := range offsets {
				take(i)
			}
			return errors.New("taken, but the answer was lost")
		case 4: // makes no sense
			refused = append(refused, sink.Refusal{Index: 1 << 20, Err: errors.New("what?")})
			return nil
		}
		for i := range offsets {
			switch roll := w.rand.IntN(10); {
			case mood == 5 && roll < 5:
				refused = append(refused, sink.Refusal{Index: i, Err: errors.New("busy")})
			case mood == 6 && roll < 2:
				refused = append(refused, sink.Refusal{Index: i, Err: errors.New("poison"), Permanent: true})
			case mood == 7 && roll < 3:
				for ; i < len(offsets); i++ {
					refused = append(refused, sink.Refusal{Index: i, Err: Later})
				}
				if len(refused) == len(offsets) {
					refused[0].Err = errors.New("busy")
				}
				return nil
			default:
				take(i)
			}
		}
		return nil
	})
	return refused, err
}

// A model is a Work: planned, its ranges are objects with names of their own; or
// each record is an item.
type model struct {
	*Drain
	w       *world
	planned bool
	recs    []streams.Record
	done    int
}

type modelPlan struct {
	Range
	Name string `json:"name"`
}

func (m *model) Cut(ctx context.Context, next uint64) (Plan, error) {
	if err := m.w.Wait(ctx, stream, 0, next); err != nil {
		return nil, err
	}
	n := 1
	m.w.process.Within(func(r *rand.Rand) { n += r.IntN(20) })
	recs, err := m.w.Read(stream, 0, next, n, 1<<20)
	if err != nil || len(recs) == 0 {
		return nil, err
	}
	to := recs[len(recs)-1].Offset + 1
	return &modelPlan{Range{next, to}, fmt.Sprintf("%d-%d", next, to)}, nil
}

func (m *model) Decode(raw []byte) (Plan, error) {
	var p modelPlan
	err := json.Unmarshal(raw, &p)
	return &p, err
}

func (m *model) Lost(from, to uint64) { panic(fmt.Sprintf("records %d to %d are lost", from, to)) }

func (m *model) Job(_ context.Context, plan Plan) (*Job, error) {
	p := plan.(*modelPlan)
	var err error
	if m.recs, err = m.w.Read(stream, 0, p.From, int(p.To-p.From), 1<<20); err != nil {
		return nil, err
	}
	m.done = 0
	j := &Job{Items: len(m.recs), OutagesCount: true,
		Enough: func(_ int, f *Failing) bool { return f.Tries > 6 },
		Settle: func(ctx context.Context, to int, given []sink.Refusal) error { return m.settle(ctx, p, to, given) },
		Send:   func(ctx context.Context, idx []int) ([]sink.Refusal, error) { return m.items(ctx, idx) },
	}
	if m.planned {
		j.Items, j.Enough = 1, nil
		j.Send = func(ctx context.Context, _ []int) ([]sink.Refusal, error) { return m.object(ctx, p) }
	}
	return j, nil
}

func (m *model) object(ctx context.Context, p *modelPlan) ([]sink.Refusal, error) {
	var content string
	for _, r := range m.recs {
		content += string(r.Data) + "\n"
	}
	return m.w.send(ctx, []uint64{p.From}, func(int) {
		if was, ok := m.w.objects[p.Name]; ok && was != content {
			panic("another content under the same name")
		}
		m.w.objects[p.Name] = content
	})
}

func (m *model) items(ctx context.Context, idx []int) ([]sink.Refusal, error) {
	offsets := make([]uint64, len(idx))
	for n, i := range idx {
		offsets[n] = m.recs[i].Offset
	}
	refused, err := m.w.send(ctx, offsets, func(n int) { m.w.items[offsets[n]]++ })
	for n := range refused {
		if i := refused[n].Index; i < len(idx) {
			refused[n].Index = idx[i]
		}
	}
	return refused, err
}

func (m *model) settle(ctx context.Context, p *modelPlan, to int, given []sink.Refusal) error {
	b := m.w.NewBatch()
	for _, g := range given {
		b.Append(failed, 0, streams.Record{Data: m.recs[g.Index].Data})
	}
	next := p.To
	if !m.planned && to < len(m.recs) {
		next = m.recs[to].Offset
	}
	return m.Move(ctx, b, next, nil)
}

// Whatever a sink does and wherever the process dies, each record is in one object,
// or was taken as an item, or is in the failed store, once; none is lost.
func TestCrash(t *testing.T) {
	var sum struct{ records, writes, deaths, given, twice int }
	seed, n := crashtest.Histories(t, 16, func(t *testing.T, seed uint64, r *rand.Rand) {
		w, records, given := crashHistory(t, r, seed%2 == 0)
		sum.records, sum.writes, sum.deaths = sum.records+records, sum.writes+w.writes, sum.deaths+w.deaths
		sum.given += given
		for _, n := range w.items {
			sum.twice += min(n-1, 1)
		}
	})
	t.Logf("%d histories from seed %d: %d records, %d writes, %d deaths, %d given up, %d items taken twice",
		n, seed, sum.records, sum.writes, sum.deaths, sum.given, sum.twice)
}

func crashHistory(t *testing.T, r *rand.Rand, planned bool) (w *world, records, given int) {
	store, err := pebble.Open("log", pebbletest.Options(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	logCtx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = store.Run(logCtx) })
	defer func() {
		stop()
		running.Wait()
		_ = store.Close()
	}()
	for _, name := range []string{stream, failed} {
		if err := store.Create(name, streams.Config{Shards: 1}); err != nil {
			t.Fatal(err)
		}
	}
	w = &world{Store: store, rand: r, objects: map[string]string{}, items: map[uint64]int{}}
	for life := 0; ; life++ {
		last := life == 10
		b := store.NewBatch()
		for range r.IntN(40) {
			b.Append(stream, 0, streams.Record{Data: fmt.Append(nil, records)})
			records++
		}
		if err := store.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		ctx, die := context.WithCancel(t.Context())
		risk := 0.1
		if w.calm = last; last {
			risk = 0
		}
		w.process = crashtest.NewProcess(r, risk, die)
		m := &model{w: w, planned: planned}
		line := NewLine(Retry{time.Second, time.Minute, 0.5}, slog.New(slog.DiscardHandler), nil)
		m.Drain = NewDrain(line, w, stream, []byte("position"), planned, m)
		length := time.Duration(r.IntN(600)) * time.Second
		var process sync.WaitGroup
		process.Go(func() { m.Run(ctx) })
		time.Sleep(length)
		synctest.Wait()
		if last {
			time.Sleep(time.Hour)
		}
		die()
		process.Wait()
		writes, died := w.process.Ended()
		if w.writes += writes; died {
			w.deaths++
		}
		if last {
			break
		}
	}
	return w, records, w.account(t, records, planned)
}

// account compares what there is with the model: each record once.
func (w *world) account(t *testing.T, records int, planned bool) (given int) {
	next, err := Next(w.Store, []byte("position"))
	if err != nil || next != uint64(records) {
		t.Errorf("position %d of %d records, %v", next, records, err)
	}
	kept, err := w.Read(failed, 0, 0, 1<<20, 1<<30)
	if err != nil {
		t.Error(err)
	}
	seen := map[string]int{}
	for _, r := range kept {
		seen[string(r.Data)]++
	}
	inFailed := len(seen)
	for _, content := range w.objects {
		for _, line := range splitLines(content) {
			seen[line]++
		}
	}
	for i := range records {
		text, n := fmt.Sprint(i), seen[fmt.Sprint(i)]
		if !planned {
			taken := w.items[uint64(i)] > 0
			if n == 0 && taken {
				continue
			}
			// What is kept may have been taken: by a sink that denied it, or in an earlier
			// life.
		}
		if n != 1 {
			t.Errorf("record %s is there %d times", text, n)
		}
	}
	return inFailed
}

func splitLines(s string) (all []string) {
	for at := 0; at < len(s); {
		end := at
		for s[end] != '\n' {
			end++
		}
		all = append(all, s[at:end])
		at = end + 1
	}
	return all
}
