package kinesis

import (
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A shard of an on-demand stream is hot when it takes more than half of what
// a shard takes for a minute; it is split then.
const (
	hotFor     = time.Minute
	hotBytes   = putBytes / 2   // a second
	hotRecords = putRecords / 2 // a second
	sampled    = 1000           // records of which the median is taken, of at most
	sampleSize = 4 << 20        // bytes
	fewSamples = 32             // with less than these a shard is split in the middle
)

// heat is what scale remembers of the shards of on-demand streams. Only Run
// uses it.
type heat struct{ shards map[heatKey]warmth }

type heatKey struct {
	stream uint32
	shard  int
}

type warmth struct {
	at      time.Time
	records uint64    // ever, by all who write
	bytes   int64     // by calls of the API
	since   time.Time // hot without a pause; zero: not
}

// scale looks at the open shards of on-demand streams and splits those that
// have been hot.
func (s *Service) scale() {
	all, err := s.all()
	if err != nil {
		s.log.Error("on-demand streams could not be scaled, will retry", "err", err)
		return
	}
	seen := map[heatKey]warmth{}
	for _, st := range all {
		if st.Mode != onDemand || !st.takes() {
			continue
		}
		in := s.bytesIn(st)
		for _, sh := range s.open(st.Name) {
			key := heatKey{st.ID, sh.Index}
			_, next, err := s.store.Bounds(st.Name, sh.Index)
			if err != nil {
				continue // it was split or the stream is gone
			}
			w := s.heat.shards[key].measure(warmth{at: s.now(), records: next, bytes: in[sh.Index]})
			if !w.since.IsZero() && w.at.Sub(w.since) >= hotFor && s.splitHot(st, sh) {
				continue
			}
			seen[key] = w
		}
	}
	s.heat.shards = seen
}

// bytesIn returns what calls wrote to the shards of a stream, by index.
func (s *Service) bytesIn(st *stream) map[int]int64 {
	in := map[int]int64{}
	if v, ok := s.flows.byID.Load(st.ID); ok {
		for _, sh := range v.(*flow).stats().Shards {
			in[sh.Index] = sh.InBytes
		}
	}
	return in
}

// measure returns now, with how long it has been hot.
func (was warmth) measure(now warmth) warmth {
	seconds := now.at.Sub(was.at).Seconds()
	if was.at.IsZero() || seconds <= 0 {
		return now
	}
	if float64(now.records-was.records) > hotRecords*seconds || float64(now.bytes-was.bytes) > hotBytes*seconds {
		if now.since = was.since; now.since.IsZero() {
			now.since = was.at
		}
	}
	return now
}

// splitHot splits a shard in two that will be as hot as each other, if there
// is room for it.
func (s *Service) splitHot(st *stream, sh streams.Shard) bool {
	a := s.In("")
	s.quota.Lock()
	defer s.quota.Unlock()
	log := s.log.With("stream", st.Name, "shard", shardID(sh.Index))
	done := false
	err := a.change(StreamRef{StreamName: &st.Name}, func(now *stream) error {
		if now.ID != st.ID || now.Mode != onDemand || now.status != active {
			return nil
		}
		if err := a.room(1); err != nil {
			return err
		}
		at := s.median(st.Name, sh)
		if !divides(sh.Range, at) {
			return nil // one hash key is what is hot
		}
		if err := a.reshard(now, split(sh.Index, sh.Range, at)); err != nil {
			return err
		}
		done = true
		log.Info("a shard of an on-demand stream was hot and is split", "at", at.String())
		return nil
	})
	if err != nil {
		log.Warn("a shard of an on-demand stream is hot and cannot be split, will retry", "err", err)
	}
	return done
}

// median is the hash key that halves what a shard took of late, by the
// partition keys of its last records; where they do not say, its middle.
func (s *Service) median(stream string, sh streams.Shard) streams.Hash {
	_, next, err := s.store.Bounds(stream, sh.Index)
	var keys []streams.Hash
	if err == nil && next > 0 {
		var recs []streams.Record
		from, err := streams.Back(s.store, stream, sh.Index, next, sampled)
		if err == nil {
			recs, err = s.store.Read(stream, sh.Index, from, sampled, sampleSize)
		}
		for i := 0; err == nil && i < len(recs); i++ {
			if h := streams.HashOf(recs[i].Key); sh.Range.Contains(h) { // else it had a hash key of its own
				keys = append(keys, h)
			}
		}
	}
	if len(keys) >= fewSamples {
		slices.SortFunc(keys, streams.Hash.Compare)
		if h := keys[len(keys)/2]; divides(sh.Range, h) {
			return h
		}
	}
	return middle(sh.Range)
}

// middle is the hash key that halves a range: the floor of (start+end)/2, and
// one.
func middle(r streams.Range) streams.Hash {
	lo := r.Start.Lo + r.End.Lo
	hi := r.Start.Hi + r.End.Hi
	var carry, top uint64
	if lo < r.Start.Lo {
		carry = 1
	}
	if hi < r.Start.Hi {
		top = 1
	}
	if hi += carry; hi < carry {
		top = 1
	}
	return plus(streams.Hash{Hi: hi>>1 | top<<63, Lo: lo>>1 | hi<<63}, 1)
}
