package kpl

import (
	"crypto/md5"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// containerBytes is how large the KPL makes its containers.
const containerBytes = 51_200

// aggregateKey is the partition key of containers, as the KPL has it; what
// counts is their explicit hash key.
const aggregateKey = "a"

// A Put is a record to put into a stream.
type Put struct {
	Key  string
	Hash streams.Hash // to be sent as the explicit hash key
	Data []byte
}

// An Aggregator packs records into containers, one for each shard that they
// will go to. It is for one goroutine at a time.
//
// The shards are what the caller knows of the stream. Once it learns that they
// are others, it must flush and make a new Aggregator; and a container whose
// put was answered from a shard other than the one with its hash key must be
// put again.
type Aggregator struct {
	max    int
	ranges []streams.Range
	packs  []pack
}

// NewAggregator packs for shards with these ranges. Containers have at most
// maxBytes; 0: containerBytes.
func NewAggregator(ranges []streams.Range, maxBytes int) *Aggregator {
	if maxBytes == 0 {
		maxBytes = containerBytes
	}
	return &Aggregator{max: maxBytes, ranges: ranges, packs: make([]pack, len(ranges))}
}

// Add takes a record and returns what is to be put before more is added: often
// nothing. hash is nil without an explicit hash key. The bytes of data are
// copied.
func (a *Aggregator) Add(key string, hash *streams.Hash, data []byte) []Put {
	r := Record{Key: key, Data: data}
	at := streams.Hash{}
	if hash != nil {
		at, r.Hash = *hash, hash.String()
	} else {
		at = streams.HashOf(key)
	}
	p := a.pack(at)
	if p == nil {
		return []Put{{key, at, append([]byte(nil), data...)}}
	}
	var puts []Put
	if p.count > 0 && p.size()+p.cost(&r) > a.max {
		puts = append(puts, p.take())
	}
	if p.count == 0 {
		p.hash = at
	}
	p.add(&r)
	if p.size() >= a.max {
		puts = append(puts, p.take())
	}
	return puts
}

// Flush returns what is left to be put, by shard.
func (a *Aggregator) Flush() []Put {
	var puts []Put
	for i := range a.packs {
		if a.packs[i].count > 0 {
			puts = append(puts, a.packs[i].take())
		}
	}
	return puts
}

func (a *Aggregator) pack(h streams.Hash) *pack {
	for i := range a.ranges {
		if a.ranges[i].Contains(h) {
			return &a.packs[i]
		}
	}
	return nil
}

// Pack makes a container.
func Pack(recs []Record) []byte {
	var p pack
	for i := range recs {
		p.add(&recs[i])
	}
	return p.bytes()
}

// A pack is a container under way.
type pack struct {
	hash         streams.Hash // of the first record
	first        Record       // which is sent plain if it stays alone
	count        int
	keys, hashes map[string]uint64
	tables, body []byte // the encoded tables, and records
}

func (p *pack) size() int { return len(magic) + len(p.tables) + len(p.body) + md5.Size }

// cost is about what a record adds, at most: lengths and indices of 5 bytes.
func (p *pack) cost(r *Record) int {
	n := len(r.Data) + 4*6
	if _, ok := p.keys[r.Key]; !ok {
		n += len(r.Key) + 6
	}
	if _, ok := p.hashes[r.Hash]; !ok && r.Hash != "" {
		n += len(r.Hash) + 6
	}
	return n
}

func (p *pack) add(r *Record) {
	if p.keys == nil {
		p.keys, p.hashes = map[string]uint64{}, map[string]uint64{}
	}
	body := protowire.AppendTag(nil, 1, protowire.VarintType)
	body = protowire.AppendVarint(body, p.index(p.keys, 1, r.Key))
	if r.Hash != "" {
		body = protowire.AppendTag(body, 2, protowire.VarintType)
		body = protowire.AppendVarint(body, p.index(p.hashes, 2, r.Hash))
	}
	body = protowire.AppendTag(body, 3, protowire.BytesType)
	body = protowire.AppendVarint(body, uint64(len(r.Data)))
	p.body = protowire.AppendTag(p.body, 3, protowire.BytesType)
	p.body = protowire.AppendVarint(p.body, uint64(len(body)+len(r.Data)))
	p.body = append(append(p.body, body...), r.Data...)
	if p.count == 0 {
		p.first = Record{Key: r.Key, Hash: r.Hash, Data: p.body[len(p.body)-len(r.Data):]}
	}
	p.count++
}

// index finds a string in a table, adding it.
func (p *pack) index(table map[string]uint64, number protowire.Number, s string) uint64 {
	i, ok := table[s]
	if !ok {
		i = uint64(len(table))
		table[s] = i
		p.tables = protowire.AppendTag(p.tables, number, protowire.BytesType)
		p.tables = protowire.AppendString(p.tables, s)
	}
	return i
}

// bytes are the container.
func (p *pack) bytes() []byte {
	b := make([]byte, 0, p.size())
	b = append(b, magic...)
	b = append(append(b, p.tables...), p.body...)
	sum := md5.Sum(b[len(magic):])
	return append(b, sum[:]...)
}

// take returns what was packed, and begins anew. A record alone is sent as it
// is.
func (p *pack) take() Put {
	put := Put{Key: aggregateKey, Hash: p.hash}
	if p.count == 1 {
		put.Key, put.Data = p.first.Key, append([]byte(nil), p.first.Data...)
	} else {
		put.Data = p.bytes()
	}
	clear(p.keys)
	clear(p.hashes)
	*p = pack{keys: p.keys, hashes: p.hashes, tables: p.tables[:0], body: p.body[:0]}
	return put
}
