package clock

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/telemetry"
)

var worlds = flag.Int("worlds", 10, "how many devices TestAnything has")

// A world has true time, in ms, and a device in it whose clocks are wrong.
type world struct {
	t    testing.TB
	now  int64 // true, epoch ms
	dir  string
	r    *rand.Rand
	ppm  int64 // by which the device's crystal is fast
	boot int   // number of the machine's boots

	since  int64 // true ms of the boot
	wall   int64 // what the wall clock shows less mono
	synced bool
	bound  int64 // of the kernel

	clock *Clock
	start [16]byte
	seq   uint64
	n     int64 // of readings
	mem   []reading
	spool []stored
	sent  []stored // delivered, each once
}

type reading struct{ mono, true, n int64 }

type stored struct {
	seq     uint64
	payload []byte
	out     []byte // as delivered
	true    []int64
	by      *Clock // that it was delivered by
}

const epoch = 1_796_100_000_000 // the true time of the beginning

// mono is the device's clock from boot, which runs fast or slow.
func (w *world) mono() int64 { d := w.now - w.since; return d + d*w.ppm/1_000_000 }

func (w *world) read() kernel.Reading {
	r := kernel.Reading{Boot: time.Duration(w.mono()) * time.Millisecond, Synced: w.synced,
		Wall: time.UnixMilli(w.mono() + w.wall)}
	if w.synced {
		off := w.r.Int64N(2*w.bound+1) - w.bound // NTP is right within what it says
		r.Wall = time.UnixMilli(w.now + off)
		r.MaxError = time.Duration(w.bound) * time.Millisecond
	}
	return r
}

// power starts the machine at what its clock shows then.
func (w *world) power(wall int64) {
	w.boot++
	w.since, w.synced, w.wall = w.now, false, wall
	w.now += 5000 + w.r.Int64N(20_000)
	w.run()
}

// run starts the agent.
func (w *world) run() {
	w.start = [16]byte{byte(w.boot), byte(w.seq >> 8), byte(w.seq), byte(w.r.IntN(256)), byte(w.r.IntN(256))}
	var last []byte
	if n := len(w.spool); n > 0 {
		last = w.spool[n-1].payload
	}
	w.clock = Open(Options{Dir: w.dir, Start: w.start, Floors: []time.Time{time.UnixMilli(epoch - 1e10)},
		Read: w.read, BootID: fmt.Sprint("boot ", w.boot)}, last)
	if len(w.spool) == 0 {
		w.clock.Forget()
	}
}

// cut is a power cut or, with clean, an end: what is in memory is lost.
func (w *world) cut(clean bool) {
	if clean {
		w.flush()
		w.clock.Close()
	}
	w.mem = nil
	w.now += 1000 + w.r.Int64N(7_200_000)
}

// sample reads a sensor for a while, every second, and flushes every few.
func (w *world) sample(d time.Duration) {
	for end := w.now + d.Milliseconds(); w.now < end; {
		w.now += 1000
		w.n++
		w.mem = append(w.mem, reading{w.mono(), w.now, w.n})
		w.clock.noteTaken(w.mono())
		if w.n%7 == 0 {
			w.flush()
		}
	}
}

func (w *world) flush() {
	s := w.clock.Stamp()
	if len(w.mem) == 0 {
		return
	}
	w.seq++
	b := &telemetry.Batch{Header: telemetry.Header{Spool: [16]byte{1}, Seq: w.seq, Boot: w.start},
		Series: []telemetry.Series{{Sensor: "s", Columns: []telemetry.Column{{Name: "n", Kind: telemetry.Int}}}}}
	var when []int64
	for _, r := range w.mem {
		b.Series[0].Times = append(b.Series[0].Times, r.mono+s.Offset)
		b.Series[0].Columns[0].Ints = append(b.Series[0].Columns[0].Ints, r.n)
		when = append(when, r.true)
	}
	bound := s.Bound + drift(w.mono()-w.mem[0].mono)
	if s.Known {
		b.Clock = telemetry.ClockSynced
	}
	if !s.Known || bound > telemetry.PlainBound {
		b.Time = telemetry.Time{Anchor: s.Offset, Bound: bound}
	}
	p, err := telemetry.Append(nil, b)
	if err != nil {
		w.t.Fatal(err)
	}
	w.spool = append(w.spool, stored{seq: w.seq, payload: p, true: when})
	w.mem = nil
}

// ask asks a bridge, which is off by up to off ms and says so, and answers after a while.
func (w *world) ask(rtt, off int64) {
	q, _ := w.clock.Ask(w.r.IntN(2) == 0)
	if q == nil {
		return
	}
	there := w.r.Int64N(rtt + 1)
	w.now += there
	said := w.now + w.r.Int64N(2*off+1) - off
	a, err := telemetry.AnswerTime(q, time.UnixMilli(said), time.Duration(off)*time.Millisecond)
	if err != nil {
		w.t.Fatal(err)
	}
	w.now += rtt - there
	w.clock.Answer([]byte(`{"nonce":"another","time_ms":1,"error_ms":1}`), time.Unix(0, 0), time.UnixMilli(farthest))
	w.clock.Answer(a, time.Unix(0, 0), time.UnixMilli(farthest))
	w.clock.Answer(a, time.Unix(0, 0), time.UnixMilli(farthest)) // a copy says nothing
}

// deliver sends up to n batches, as far as their time is known; over says that it is not
// waited for any longer. Some are sent twice, and the second is left out.
func (w *world) deliver(n int, over bool) {
	for n > 0 && len(w.spool) > 0 {
		s := w.spool[0]
		out, known := w.clock.Fix(s.payload)
		if !known && !over {
			return
		}
		if again, _ := w.clock.Fix(s.payload); w.r.IntN(3) == 0 && string(again) != string(out) {
			w.t.Fatalf("batch %d is another one when it is sent again", s.seq)
		}
		w.clock.Sent(s.seq)
		s.out, s.by = out, w.clock
		w.sent = append(w.sent, s)
		w.spool = w.spool[1:]
		n--
	}
}

// An order says how well times rise.
type order uint8

const (
	strictly order = iota
	loosely
	anyhow
)

// check compares all that was delivered with the truth.
func (w *world) check(o order) (unknown int, worst int64) {
	w.t.Helper()
	number, before := int64(0), int64(0)
	var previous telemetry.Header
	var by *Clock
	for _, s := range w.sent {
		b, err := telemetry.Decode(s.out)
		if err != nil {
			w.t.Fatal(err)
		}
		bound := cmp.Or(b.Time.Bound, telemetry.PlainBound)
		for i, ts := range b.Series[0].Times {
			off := s.true[i] - ts // positive: it was later than stated
			n := b.Series[0].Columns[0].Ints[i]
			if n <= number {
				w.t.Fatalf("reading %d after %d", n, number)
			}
			number = n
			if b.Clock != telemetry.ClockSynced {
				unknown++
				if -off > bound {
					w.t.Fatalf("batch %d, unknown: %d ms before ts, said to be %d at most", s.seq, -off, bound)
				}
			} else if max(off, -off) > bound {
				w.t.Fatalf("batch %d: off by %d ms, said to be %d at most", s.seq, off, bound)
			} else {
				worst = max(worst, bound)
			}
			if ts < epoch-1e10 {
				w.t.Fatalf("batch %d: a reading of %v", s.seq, time.UnixMilli(ts).UTC())
			}
			// A batch of a good clock stays as it is, also where the one before it was
			// sent when less was known.
			within := o == loosely && b.Time == telemetry.Time{} && before-ts <= bound+previous.Time.Bound
			if o != anyhow && ts < before && s.by == by && !within {
				w.t.Fatalf("batch %d of boot %d, %+v: reading %d is %d ms before the one before it, of %+v", s.seq,
					b.Boot[0], b.Time, n, before-ts, previous)
			}
			before = ts
		}
		previous, by = b.Header, s.by
	}
	return unknown, worst
}

func newWorld(t testing.TB, seed uint64) *world {
	return &world{t: t, now: epoch, dir: t.TempDir(), r: rand.New(rand.NewPCG(seed, 7)), bound: 20}
}

// A device without a clock starts at 1970, is offline for six hours with three
// reboots, its crystal is 100 ppm off, its clock is set back by an hour and ahead by a
// day, and at last a bridge tells it the time, late. All its readings come with their
// time, within a stated bound, in order.
func TestSixHoursOffline(t *testing.T) {
	for _, ppm := range []int64{-100, 100} {
		w := newWorld(t, 1)
		w.ppm = ppm
		w.power(0) // 1970
		w.sample(90 * time.Minute)
		w.wall -= 3_600_000
		w.sample(30 * time.Minute)
		for range 3 {
			w.cut(false)
			w.power(0)
			w.sample(60 * time.Minute)
			w.wall += 86_400_000
			w.sample(20 * time.Minute)
			w.deliver(10, false)
		}
		if len(w.sent) != 0 {
			t.Fatalf("%d batches were sent before the time was known", len(w.sent))
		}
		w.ask(20_000, 30) // answers after 20 s
		w.deliver(5000, false)
		w.sample(time.Minute)
		w.ask(100, 30)
		w.sample(time.Minute)
		w.flush()
		w.deliver(5000, false)
		unknown, worst := w.check(strictly)
		if unknown != 0 || len(w.spool) != 0 {
			t.Errorf("%d readings of an unknown time, %d batches left", unknown, len(w.spool))
		}
		// The last boot is exact: its readings are within 80 min of 200 ppm and the
		// round trip.
		s := w.sent[len(w.sent)-30]
		if h, err := telemetry.DecodeHeader(s.out); err != nil || h.Time.Bound > 12_000 {
			t.Errorf("a reading of the last boot has a bound of %d ms", h.Time.Bound)
		}
		t.Logf("%d ppm: %d batches, the widest bound is %v", ppm, len(w.sent), time.Duration(worst)*time.Millisecond)
	}
}

// Boots between two that are known are put between them, and are off by half of what
// the machine was off for.
func TestBootBetweenKnownOnes(t *testing.T) {
	w := newWorld(t, 2)
	w.power(0)
	w.synced = true
	w.sample(time.Hour)
	w.cut(true)
	w.power(0)
	w.sample(time.Hour)
	w.cut(false)
	w.power(0)
	w.sample(time.Minute)
	w.synced = true
	w.sample(time.Minute)
	w.flush()
	w.deliver(5000, false)
	if unknown, worst := w.check(strictly); unknown != 0 || worst > 2*3_600_000+60_000 {
		t.Errorf("%d unknown, bound %d", unknown, worst)
	}
	first, _ := telemetry.DecodeHeader(w.sent[0].out)
	if (first.Time != telemetry.Time{}) {
		t.Errorf("a batch of a good clock says %+v", first.Time)
	}
}

// What cannot be known goes out in the end, marked, and not before what was known.
func TestNeverKnown(t *testing.T) {
	w := newWorld(t, 3)
	w.power(0)
	w.sample(time.Hour)
	w.cut(false)
	w.power(w.now - 500) // a battery, and nobody who says that it is right
	w.sample(time.Hour)
	w.cut(false)
	w.power(0)
	w.sample(time.Hour)
	w.flush()
	w.deliver(5000, false)
	if len(w.sent) != 0 {
		t.Fatal("sent")
	}
	w.deliver(5000, true)
	if unknown, _ := w.check(strictly); unknown < 3*3600-100 {
		t.Errorf("%d unknown", unknown)
	}
}

// A device that is known once goes on by itself, its bound grows, and it is put right
// between the two times.
func TestHoldover(t *testing.T) {
	w := newWorld(t, 4)
	w.ppm = 100
	w.power(0)
	w.synced = true
	w.sample(10 * time.Minute)
	w.synced = false
	w.wall = 5
	w.sample(6 * time.Hour)
	if s := w.clock.Stamp(); !s.Known || s.Bound < 4000 || s.Bound > 5000 {
		t.Errorf("%+v", s)
	}
	w.synced = true
	w.sample(10 * time.Minute)
	w.flush()
	w.deliver(9999, false)
	if unknown, worst := w.check(strictly); unknown != 0 || worst > 2500 {
		t.Errorf("%d unknown, bound %d", unknown, worst)
	}
}

// Whatever happens to a device, what it delivers is right within what it says, in
// order, and once.
func TestAnything(t *testing.T) {
	for seed := range uint64(*worlds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { anything(newWorld(t, 1000+seed), 60) })
	}
}

// anything makes steps of w's randomness.
func anything(w *world, steps int) {
	r := w.r
	w.ppm = r.Int64N(201) - 100
	w.power(w.anyWall())
	gaveUp := false
	for range steps {
		switch r.IntN(12) {
		case 0:
			w.cut(r.IntN(3) == 0)
			w.power(w.anyWall())
		case 1: // the agent alone
			if r.IntN(2) == 0 {
				w.flush()
				w.clock.Close()
			}
			w.mem = nil
			w.now += r.Int64N(60_000)
			w.run()
		case 2:
			w.synced, w.bound = true, 1+r.Int64N(500)
		case 3:
			if w.synced {
				w.synced, w.wall = false, w.now-w.mono()
			}
		case 4:
			w.wall += r.Int64N(172_800_000) - 86_400_000
		case 5, 6:
			w.ask(r.Int64N(40_000), r.Int64N(2000))
		case 7:
			w.deliver(r.IntN(200), false)
		case 8:
			if r.IntN(20) == 0 {
				gaveUp = true
				w.deliver(r.IntN(200), true)
			}
		case 9:
			w.now += r.Int64N(86_400_000) // suspended, or nothing to read
		default:
			w.sample(time.Duration(r.IntN(1200)) * time.Second)
		}
	}
	w.synced, w.bound = true, 10
	w.flush()
	w.deliver(1<<30, false)
	o := loosely
	if gaveUp {
		o = anyhow
	}
	w.check(o)
	if len(w.spool) != 0 {
		w.t.Fatalf("%d batches left though the time is known", len(w.spool))
	}
}

// anyWall is what a clock shows after power on: 1970, or a battery's time.
func (w *world) anyWall() int64 {
	if w.r.IntN(3) > 0 {
		return w.r.Int64N(60_000)
	}
	return w.now + w.r.Int64N(7_200_000) - 3_600_000
}

// FuzzAnything is TestAnything from other seeds.
func FuzzAnything(f *testing.F) {
	f.Add(uint64(1), uint8(30))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) { anything(newWorld(t, seed), int(steps)) })
}

// Whatever a file says, it is refused or can be lived with.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"floor_ms":5,"boots":[{"boot":"x","starts":["00"],"last_ms":7,"guess_ms":3,` +
		`"known":[{"mono_ms":1,"offset_ms":2,"error_ms":3}]},null]}`))
	f.Add([]byte(`{"version":1,"boots":[{"last_ms":1125899906842624,"known":[{"offset_ms":-1125899906842624}]}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		rec, err := parse(in)
		if err != nil {
			return
		}
		h := history{floor: rec.Floor, boots: rec.Boots}
		for i, b := range h.boots {
			for _, m := range []int64{0, b.Last} {
				if wall, bound, ok := h.when(i, m); ok && (bound < 0 || wall > never/2 || wall < -never/2) {
					t.Fatalf("boot %d at %d: %d, %d", i, m, wall, bound)
				}
			}
		}
		text, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(text)
		if err != nil || !slices.EqualFunc(rec.Boots, again.Boots, func(a, b *boot) bool {
			return a.Last == b.Last && slices.Equal(a.Anchors, b.Anchors)
		}) {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
