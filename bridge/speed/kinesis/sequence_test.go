package kinesis

import (
	"cmp"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/deploy/conformance"
)

func TestSequenceVectors(t *testing.T) {
	lines := conformance.Kind(t, "streams-hash.jsonl", "sequence-v2")
	for _, line := range lines {
		var v struct {
			ShardCreateSecs, SeqIndex, SeqSecs uint64
			ShardIndex                         uint32
			SequenceNumber                     string
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		q := Sequence{created: v.ShardCreateSecs, counter: v.SeqIndex, seconds: v.SeqSecs, shard: v.ShardIndex}
		if got := q.String(); got != v.SequenceNumber {
			t.Errorf("%+v: %s, want %s", q, got, v.SequenceNumber)
		}
		if got, err := parseSequence(v.SequenceNumber); err != nil || got != q {
			t.Errorf("%s: %+v, %v, want %+v", v.SequenceNumber, got, err, q)
		}
	}
	t.Logf("sequence-v2: %d", len(lines))
}

var anySequence = rapid.Custom(func(t *rapid.T) Sequence {
	return Sequence{
		created: rapid.Uint64Range(1, seconds36).Draw(t, "created"),
		counter: rapid.Uint64Range(0, lastCounter).Draw(t, "counter"),
		seconds: rapid.Uint64Range(0, seconds36).Draw(t, "seconds"),
		shard:   rapid.Uint32().Draw(t, "shard"),
	}
})

// What is written reads back, and Compare is the order of the numbers.
func TestSequenceRoundTripAndOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anySequence.Draw(t, "a"), anySequence.Draw(t, "b")
		if rapid.Bool().Draw(t, "same shard") {
			b.created, b.shard = a.created, a.shard
		}
		got, err := parseSequence(a.String())
		if err != nil || got != a {
			t.Fatalf("%+v -> %s -> %+v, %v", a, a, got, err)
		}
		var na, nb big.Int
		na.SetString(a.String(), 10)
		nb.SetString(b.String(), 10)
		if a.Compare(b) != na.Cmp(&nb) {
			t.Fatalf("%s against %s: %d, want %d", a, b, a.Compare(b), na.Cmp(&nb))
		}
	})
}

func TestSequencesOfShards(t *testing.T) {
	at := time.Unix(1_700_000_000, 5e8)
	parent := streams.Shard{Index: 3, Created: at, Closed: at.Add(time.Minute)}
	child := streams.Shard{Index: 4, Created: at.Add(time.Minute), Parents: []int{3}}
	order := []Sequence{
		firstSequence(&parent),
		sequenceOf(&parent, 0, at.UnixMilli()),
		sequenceOf(&parent, 1, at.UnixMilli()+30_000),
		sequenceOf(&parent, 2, at.UnixMilli()), // a clock that went back
		lastSequence(&parent),
		firstSequence(&child),
		sequenceOf(&child, 0, at.UnixMilli()+60_000),
	}
	for i := 1; i < len(order); i++ {
		if order[i-1].Compare(order[i]) >= 0 {
			t.Errorf("%d: %s is not less than %s", i, order[i-1], order[i])
		}
	}
	if !lastSequence(&child).IsZero() {
		t.Error("an open shard has a closing number")
	}
	// The constant between the starting numbers of neighbours in a new stream.
	var a, b big.Int
	next := streams.Shard{Index: 1, Created: at}
	first := streams.Shard{Created: at}
	a.SetString(firstSequence(&first).String(), 10)
	b.SetString(firstSequence(&next).String(), 10)
	if got := b.Sub(&b, &a).String(); got != "22300745198530623141535718272648361505980432" {
		t.Errorf("starting numbers are %s apart", got)
	}
}

// What parseSequence takes, AppendText writes.
func FuzzParseSequence(f *testing.F) {
	f.Add("49557475446258061396955765344015735383305336212800143442")
	f.Add("0")
	f.Add("")
	f.Add("99999999999999999999999999999999999999999999999999999999")
	f.Fuzz(func(t *testing.T, s string) {
		if q, err := parseSequence(s); err == nil && q.String() != s {
			t.Fatalf("%q -> %+v -> %q", s, q, q.String())
		}
	})
}

func BenchmarkSequenceAppend(b *testing.B) {
	q := Sequence{created: 1_700_000_000, counter: 123456, seconds: 1_700_000_100, shard: 3}
	var buf []byte
	for b.Loop() {
		buf, _ = q.AppendText(buf[:0])
	}
}

// Compare is -1, 0 or 1, as the numbers are.
func (q Sequence) Compare(o Sequence) int {
	return cmp.Or(
		cmp.Compare(q.created, o.created), cmp.Compare(q.shard&15, o.shard&15), cmp.Compare(q.counter, o.counter),
		cmp.Compare(q.seconds, o.seconds), cmp.Compare(q.shard, o.shard))
}
