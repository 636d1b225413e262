package streams

import (
	"testing"
	"time"
)

// madeLater is a log whose stream is made after a batch was filled.
type madeLater struct{ lineage *Lineage }

func (m *madeLater) Lineage(string) (*Lineage, error) {
	if m.lineage == nil {
		return nil, ErrNotFound
	}
	return m.lineage, nil
}

// What Put had for a stream that was not there goes to its shards if it is there
// at the commit, also behind what Append had for the same stream, and counts once.
func TestRerouteOfStreamMadeLater(t *testing.T) {
	log := &madeLater{}
	b := NewBatch(log)
	b.Append("s", 0, Record{Key: "a", Data: []byte("1")})
	b.Put("s", HashOf("b"), Record{Key: "b", Data: []byte("2")})
	before := b.Bytes()
	log.lineage = EvenLineage(1, time.Unix(0, 0))
	if err := b.Reroute(log); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.Runs() {
		if r.Shard != 0 {
			t.Errorf("a run for shard %d, want 0", r.Shard)
		}
	}
	if n := b.Len(); n != 2 || b.Bytes() > before {
		t.Errorf("%d records of %d bytes, want 2 of at most %d", n, b.Bytes(), before)
	}
}
