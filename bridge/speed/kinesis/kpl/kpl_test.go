package kpl

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/deploy/conformance"
)

func TestVectors(t *testing.T) {
	total := map[string]int{}
	for _, line := range conformance.Kind(t, "streams-hash.jsonl", "kpl", "kpl-shard-filter") {
		var v struct {
			Kind, Name, Hex string
			Aggregated      *bool
			ShardRange      [2]string
			Records         []struct {
				PartitionKey, ExplicitHashKey, DataHex string
				SubSequenceNumber                      int
			}
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		total[v.Kind]++
		in, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := Parse(in)
		if v.Kind == "kpl-shard-filter" {
			got, ok = Split(in, streams.Range{Start: mustHash(t, v.ShardRange[0]), End: mustHash(t, v.ShardRange[1])})
		}
		if want := v.Aggregated == nil || *v.Aggregated; ok != want || len(got) != len(v.Records) {
			t.Errorf("%s: %d records, %t, want %d, %t", v.Name, len(got), ok, len(v.Records), want)
			continue
		}
		for i, r := range v.Records {
			if want := (Record{r.PartitionKey, r.ExplicitHashKey, got[i].Data}); got[i].Key != want.Key ||
				got[i].Hash != want.Hash ||
				hex.EncodeToString(got[i].Data) != r.DataHex || r.SubSequenceNumber != i {
				t.Errorf("%s: record %d is %+v, want %+v", v.Name, i, got[i], r)
			}
		}
	}
	t.Logf("kpl: %d, kpl-shard-filter: %d", total["kpl"], total["kpl-shard-filter"])
	if total["kpl"] == 0 || total["kpl-shard-filter"] == 0 {
		t.Error("a kind is missing")
	}
}

func mustHash(t *testing.T, s string) streams.Hash {
	t.Helper()
	h, err := streams.ParseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func frame(body []byte) []byte {
	sum := md5.Sum(body)
	return append(append([]byte(magic), body...), sum[:]...)
}

// What protobuf allows, and what it doesn't.
func TestMessages(t *testing.T) {
	const table = "\x0a\x01k"
	const rec = "\x1a\x05\x08\x00\x1a\x01x"
	for name, c := range map[string]struct {
		body string
		want []Record
		ok   bool
	}{
		"records before tables": {rec + table, []Record{{Key: "k", Data: []byte("x")}}, true},
		"no records":            {table, []Record{}, true},
		"unknown fields": {table + "\x20\x07" + "\x2a\x01z" + "\x31abcdefgh" + "\x3dabcd" + rec,
			[]Record{{Key: "k", Data: []byte("x")}}, true},
		"group": {table + "\x43\x4b\x08\x01\x4c\x44" + rec, []Record{{Key: "k", Data: []byte("x")}},
			true},
		"group without end":       {table + "\x43\x08\x01" + rec, nil, false},
		"group of another number": {table + "\x43\x4c" + rec, nil, false},
		"end without group":       {table + rec + "\x44", nil, false},
		"nested too deep": {table + string(bytes.Repeat([]byte{0x43}, 10_002)) +
			string(bytes.Repeat([]byte{0x44}, 10_002)) + rec, nil, false},
		"last of several": {table + "\x1a\x08\x08\x05\x08\x00\x1a\x00\x1a\x00",
			[]Record{{Key: "k", Data: []byte{}}}, true},
		"no key":                {table + "\x1a\x03\x1a\x01x", nil, false},
		"no data":               {table + "\x1a\x02\x08\x00", nil, false},
		"key not in the table":  {table + "\x1a\x05\x08\x01\x1a\x01x", nil, false},
		"hash not in the table": {table + "\x1a\x07\x08\x00\x10\x00\x1a\x01x", nil, false},
		"hash that is none":     {table + "\x12\x01x" + rec, nil, false},
		"tag without key":       {table + "\x1a\x07\x08\x00\x1a\x01x\x22\x00", nil, false},
		"field 0":               {table + rec + "\x00\x00", nil, false},
		"cut short":             {table + rec[:len(rec)-1], nil, false},
		"long varint":           {table + rec + "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Parse(frame([]byte(c.body)))
			if ok != c.ok || len(got) != len(c.want) || len(got) > 0 && !reflect.DeepEqual(got, c.want) {
				t.Errorf("%q, %t, want %q, %t", got, ok, c.want, c.ok)
			}
		})
	}
}

// Whatever parses packs into a container of the same records.
func FuzzParse(f *testing.F) {
	f.Add([]byte("\x0a\x01k\x1a\x05\x08\x00\x1a\x01x"))
	f.Add([]byte("\x0a\x01k\x12\x0217\x1a\x07\x08\x00\x10\x00\x1a\x01x"))
	f.Add([]byte("\x0a\x05dev-a\x43\x44\x1a\x1a\x08\x00\x1a\x03one\"\x06\n\x01k\x12\x01v\"\t\n\x07onlykey"))
	f.Fuzz(func(t *testing.T, body []byte) {
		recs, ok := Parse(frame(body))
		if !ok {
			return
		}
		if len(recs) == 0 {
			return // packs to nothing, which is no container
		}
		again, ok := Parse(Pack(recs))
		if !ok || len(again) != len(recs) {
			t.Fatalf("%q: %q -> %q", body, recs, again)
		}
		for i := range recs {
			if recs[i].Key != again[i].Key || recs[i].Hash != again[i].Hash ||
				!bytes.Equal(recs[i].Data, again[i].Data) {
				t.Fatalf("%q: %q -> %q", body, recs, again)
			}
		}
	})
}

// Everything that is added arrives once, in its shard, in the order of its
// key, in containers that are not too large.
func TestAggregator(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranges := streams.Even(rapid.IntRange(1, 4).Draw(t, "shards"))
		limit := rapid.SampledFrom([]int{0, 100, 1000}).Draw(t, "limit")
		a := NewAggregator(ranges, limit)
		if limit == 0 {
			limit = containerBytes
		}
		sent, got := map[string][]string{}, map[string][]string{}
		read := func(puts []Put) {
			for _, p := range puts {
				var rng streams.Range
				for _, r := range ranges {
					if r.Contains(p.Hash) {
						rng = r
					}
				}
				recs, ok := Split(p.Data, rng)
				if !ok {
					got[p.Key] = append(got[p.Key], string(p.Data))
					continue
				}
				if len(recs) < 2 || len(p.Data) > limit || p.Key != "a" {
					t.Fatalf("container of %d records, %d bytes, limit %d", len(recs), len(p.Data), limit)
				}
				for _, r := range recs {
					got[r.Key] = append(got[r.Key], string(r.Data))
				}
			}
		}
		for range rapid.IntRange(0, 200).Draw(t, "records") {
			key := rapid.SampledFrom([]string{"b", "c", "d", "e", "ключ"}).Draw(t, "key")
			data := string(rapid.SliceOfN(rapid.Byte(), 0, 150).Draw(t, "data"))
			var hash *streams.Hash
			if key == "e" {
				hash = &streams.Hash{Hi: 1 << 63}
			}
			sent[key] = append(sent[key], data)
			read(a.Add(key, hash, []byte(data)))
		}
		read(a.Flush())
		if !reflect.DeepEqual(sent, got) {
			t.Fatalf("sent %q, got %q", sent, got)
		}
		if left := a.Flush(); len(left) != 0 {
			t.Fatalf("left %v", left)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	recs := make([]Record, 200)
	for i := range recs {
		recs[i] = Record{Key: string(rune('a' + i%26)), Data: make([]byte, 200)}
	}
	data := Pack(recs)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if got, _ := Split(data, streams.Range{End: streams.Hash{Hi: 1<<64 - 1}}); len(got) != 200 {
			b.Fatal(len(got))
		}
	}
}
