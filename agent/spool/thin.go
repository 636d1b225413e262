package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/agent/telemetry"
)

const (
	// lendAhead is how many batches are lent at once, where more were written than
	// are being sent: so a backlog costs a commit more for each so many batches.
	lendAhead = 64

	// Thinning looks at so many bytes in one commit, which is also the memory that a
	// commit takes for it, and goes on until a part of MaxBytes is free, so that not
	// each flush thins.
	thinMost = 1 << 20
	thinPart = 32
	partMost = 256 << 10
	runMost  = 64 << 10 // bytes that are halved at once

	// thinLevels is how often a batch may be halved: what one reading in 65,536
	// does not make room for, drops do.
	thinLevels = 16

	// thinJoin is how many readings a batch that is made of several has at most:
	// an hour at one in 8 s. More do not make a reading shorter by much.
	thinJoin = 450
)

var keyThin = []byte("thin")

// A thinning is what the file says about ThinOut.
type thinning struct {
	// lent is the highest number that may have been sent. What a bridge may have
	// is never changed: it knows batches by their numbers.
	lent    uint64
	thinned uint64 // readings given up so; part of state.dropped
	// levels has for each level the number up to which batches were halved more
	// often: descending.
	levels []uint64
}

// append encodes it for the commit that writes st.
func (t *thinning) append(b []byte, st *state) []byte {
	start := len(b)
	sum := st.append(nil)
	b = append(b, sum[stateBytes-4:]...)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, t.lent), t.thinned)
	for _, seq := range t.levels {
		b = binary.BigEndian.AppendUint64(b, seq)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// readThinning reads what a file with the state st has. Where it does not belong to
// that state, any batch may have been sent: by a program that does not thin.
func readThinning(b []byte, st *state) thinning {
	all := thinning{lent: st.seq}
	n := len(b) - 4
	if n < 20 || (n-20)%8 != 0 || (n-20)/8 > thinLevels ||
		crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return all
	}
	t := thinning{lent: binary.BigEndian.Uint64(b[4:]), thinned: binary.BigEndian.Uint64(b[12:])}
	for at := 20; at < n; at += 8 {
		t.levels = append(t.levels, binary.BigEndian.Uint64(b[at:]))
	}
	if !bytes.Equal(b[:4], st.append(nil)[stateBytes-4:]) {
		all.thinned = t.thinned
		return all
	}
	return t
}

// level is how often batch seq was halved.
func (t *thinning) level(seq uint64) int {
	n := 0
	for n < len(t.levels) && seq <= t.levels[n] {
		n++
	}
	return n
}

// lend makes sure that it is on the disk that seq may have been sent, and some
// that follow. While the disk can't be written it is only known in memory: a kill
// then, with a batch sent and not acknowledged, may have its readings come again.
func (s *Spool) lend(seq uint64) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	s.wanted = max(s.wanted, seq+lendAhead-1)
	s.mu.Unlock()
	_ = s.flushHeld() // says itself in the log
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thin.lent = max(s.thin.lent, min(s.wanted, s.st.seq))
}

// lend takes over how far batches may be sent before the next flush: all, if there
// is somebody who waits for the next.
func (f *flush) lend() {
	to := min(f.wanted, f.st.seq)
	if f.live {
		to = f.st.seq
	}
	f.thin.lent = max(f.thin.lent, to)
}

// thinOut makes room by halving what was halved least, the oldest of it first. Each
// level gets about as many bytes as each other, so that one that is halved once more
// covers twice the time: the whole time stays, at a resolution that falls with age.
func (f *flush) thinOut(batches *bbolt.Bucket) error {
	limit := uint64(f.s.o.MaxBytes)
	if f.st.bytes <= limit {
		return nil
	}
	var sizes [thinLevels + 1]uint64 // of what may be thinned, by level
	c := batches.Cursor()
	for k, v := c.Seek(batchKey(f.thin.lent + 1)); k != nil; k, v = c.Next() {
		if len(k) == keyBytes {
			sizes[f.thin.level(binary.BigEndian.Uint64(k))] += headOf(v).bytes
		}
	}
	limit = f.room()
	for looked := 0; f.st.bytes > limit && looked < thinMost; {
		level := 0
		for l := range thinLevels {
			if sizes[l] > sizes[level] {
				level = l
			}
		}
		before := f.st.bytes
		n, err := f.thinRun(batches, level)
		if err != nil || n == 0 {
			return err
		}
		looked += n
		sizes[level] -= min(sizes[level], uint64(n))
		sizes[level+1] += uint64(n) - min(before-min(before, f.st.bytes), uint64(n))
	}
	return nil
}

// room is what is to be left when the spool was full.
func (f *flush) room() uint64 {
	limit := uint64(f.s.o.MaxBytes)
	if f.s.o.Overflow == ThinOut && f.st.bytes > limit {
		limit -= min(limit/thinPart, partMost)
	}
	return limit
}

// A thinned is a stored batch and what is to be left of it.
type thinned struct {
	seq   uint64
	head  entry
	batch *telemetry.Batch
}

// thinRun halves the oldest batches of a level, and returns how many bytes it looked
// at.
func (f *flush) thinRun(batches *bbolt.Bucket, level int) (looked int, err error) {
	after, last := f.thin.lent, ^uint64(0)
	if level < len(f.thin.levels) {
		after = max(after, f.thin.levels[level])
	}
	if level > 0 {
		last = f.thin.levels[level-1]
	}
	var all []thinned
	most := int(min(f.s.o.MaxBytes/(2*thinPart), runMost))
	rows := halving{keep: f.s.o.Keep, series: map[string]*parity{}}
	c := batches.Cursor()
	for k, v := c.Seek(batchKey(after + 1)); k != nil && looked < most; k, v = c.Next() {
		seq, payload, ok := openBatch(k, v)
		if seq > last {
			break
		}
		after, looked = seq, looked+len(v)
		if !ok {
			continue // the reader gives it up
		}
		if b, err := telemetry.Decode(payload); err == nil {
			all = append(all, thinned{seq, headOf(v), rows.half(b)})
		}
	}
	if looked == 0 {
		return 0, nil
	}
	if level == len(f.thin.levels) {
		f.thin.levels = append(f.thin.levels, after)
	} else {
		f.thin.levels[level] = after
	}
	for len(all) > 0 {
		n, whole := joined(all)
		if err := f.rewrite(batches, all[:n], whole); err != nil {
			return looked, err
		}
		all = all[n:]
	}
	return looked, nil
}

// joined returns how many of the first batches become one, and that one. They are of
// one start of the agent and one clock.
func joined(all []thinned) (n int, whole *telemetry.Batch) {
	first := all[0]
	whole = &telemetry.Batch{Header: first.batch.Header}
	for _, t := range all {
		h, w := t.batch.Header, &whole.Header
		alike := h.Boot == w.Boot && h.Clock == w.Clock && h.Time.Anchor == w.Time.Anchor &&
			(h.Time == telemetry.Time{}) == (w.Time == telemetry.Time{}) && (t.head.at == 0) == (first.head.at == 0)
		if n > 0 && (!alike || whole.Readings()+t.batch.Readings() > thinJoin) {
			break
		}
		n++
		w.Seq, w.Time.Bound = h.Seq, max(w.Time.Bound, h.Time.Bound)
		for i := range t.batch.Series {
			from := &t.batch.Series[i]
			at := slices.IndexFunc(whole.Series, func(s telemetry.Series) bool { return s.Same(from) })
			if at < 0 {
				at, whole.Series = len(whole.Series), append(whole.Series, from.Empty())
			}
			for row := range from.Times {
				whole.Series[at].Take(from, row)
			}
		}
	}
	return n, whole
}

// rewrite puts one batch into the place of several, under the number of the last.
// Where that would not be shorter, or no batch that a bridge takes, each is put
// for itself, or stays.
func (f *flush) rewrite(batches *bbolt.Bucket, old []thinned, b *telemetry.Batch) error {
	var was entry
	for _, t := range old {
		was.readings += t.head.readings
		was.bytes += t.head.bytes
	}
	last := old[len(old)-1]
	var value []byte
	left := b.Readings()
	if left > 0 {
		var err error
		if value, err = telemetry.Append(make([]byte, headBytes), b); err != nil ||
			uint64(len(value)-headBytes) >= was.bytes {
			if len(old) == 1 {
				return nil
			}
			for i := range old {
				if err := f.rewrite(batches, old[i:i+1], old[i].batch); err != nil {
					return err
				}
			}
			return nil
		}
		sealBatch(value, last.seq, last.head.at, left)
	}
	for _, t := range old {
		f.st.remove(t.head.readings, t.head.bytes)
		if t.seq == last.seq && left > 0 {
			continue
		}
		f.gone[t.seq] = departure{entry: t.head}
		if err := batches.Delete(batchKey(t.seq)); err != nil {
			return err
		}
	}
	lost := was.readings - min(was.readings, uint64(left))
	f.st.dropped += lost
	f.thin.thinned += lost
	if left == 0 {
		return nil
	}
	f.st.batches++
	f.st.readings += uint64(left)
	f.st.bytes += uint64(len(value) - headBytes)
	return batches.Put(batchKey(last.seq), value)
}

// A halving takes every second reading of each series out of a run of batches.
type halving struct {
	keep   func(sensor string) bool
	series map[string]*parity // by sensor, columns, and which of these have a value
	kept   map[string]bool    // of keep
}

// A parity is where the halving of a series is.
type parity struct {
	n     int
	texts []string // the last value of each text and bool
}

// half returns what is left of b. A reading stays where a text or a bool changes.
func (h *halving) half(b *telemetry.Batch) *telemetry.Batch {
	out := &telemetry.Batch{Header: b.Header}
	for i := range b.Series {
		s := &b.Series[i]
		if h.whole(s.Sensor) {
			out.Series = append(out.Series, *s)
			continue
		}
		left := s.Empty()
		for row := range s.Times {
			if h.stays(s, row) {
				left.Take(s, row)
			}
		}
		if len(left.Times) > 0 {
			out.Series = append(out.Series, left)
		}
	}
	return out
}

// whole says whether each reading of a sensor stays.
func (h *halving) whole(sensor string) bool {
	if h.keep == nil {
		return false
	}
	k, ok := h.kept[sensor]
	if !ok {
		if h.kept == nil {
			h.kept = map[string]bool{}
		}
		k = h.keep(sensor)
		h.kept[sensor] = k
	}
	return k
}

func (h *halving) stays(s *telemetry.Series, row int) bool {
	key, now := []byte(s.Sensor), []string(nil)
	for i := range s.Columns {
		c := &s.Columns[i]
		key = append(append(key, 0), c.Name...)
		if c.Present != nil && !c.Present[row] {
			continue
		}
		key = append(key, byte(c.Kind))
		switch c.Kind {
		case telemetry.Text:
			now = append(now, c.Texts[row])
		case telemetry.Bool:
			now = append(now, map[bool]string{true: "1"}[c.Bools[row]])
		}
	}
	p := h.series[string(key)]
	if p == nil {
		p = &parity{texts: now}
		h.series[string(key)] = p
	}
	stays := p.n%2 == 0 || !slices.Equal(p.texts, now)
	p.n++
	p.texts = now
	return stays
}
