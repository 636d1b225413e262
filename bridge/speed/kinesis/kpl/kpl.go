// Package kpl reads and writes the containers in which the Kinesis Producer
// Library packs several user records into one record of a stream.
//
// A container is the bytes F3 89 9A C2, a protobuf message and the message's
// MD5. The message (proto2):
//
//	AggregatedRecord  1 repeated string partition_key_table
//	                  2 repeated string explicit_hash_key_table
//	                  3 repeated Record
//	Record            1 required uint64 partition_key_index
//	                  2 optional uint64 explicit_hash_key_index
//	                  3 required bytes  data
//	                  4 repeated Tag, which nobody uses
package kpl

import (
	"bytes"
	"crypto/md5"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Record is a user record. Its sub-sequence number is its place in the
// container, from 0.
type Record struct {
	Key  string // partition key
	Hash string // explicit hash key; "" for none
	Data []byte
}

const magic = "\xf3\x89\x9a\xc2"

// Parse returns the user records of a container, in order; ok is false for
// anything else, which is a record as it stands. The records' Data are parts
// of data.
func Parse(data []byte) (recs []Record, ok bool) {
	m, ok := open(data)
	if !ok {
		return nil, false
	}
	return m.records, true
}

// Split is Parse for a reader of one shard, whose range is rng. If any user
// record belongs elsewhere, by explicit hash key or the hash of its partition
// key, the whole container yields nothing: the producer saw from the answer
// that it hit another shard than it meant, and sent all of it again.
func Split(data []byte, rng streams.Range) (recs []Record, ok bool) {
	m, ok := open(data)
	if !ok {
		return nil, false
	}
	if rng == (streams.Range{End: streams.MaxHash}) {
		return m.records, true
	}
	// Each key is hashed once, however many records have it.
	inside := make([]bool, len(m.keys))
	for i := range m.records {
		switch {
		case m.records[i].Hash != "":
			if h, err := streams.ParseHash(m.records[i].Hash); err != nil || !rng.Contains(h) {
				return nil, true
			}
		case !inside[m.keyOf[i]]:
			if !rng.Contains(streams.HashOf(m.records[i].Key)) {
				return nil, true
			}
			inside[m.keyOf[i]] = true
		}
	}
	return m.records, true
}

// open checks the frame of a container and reads its message.
func open(data []byte) (*message, bool) {
	if len(data) <= len(magic)+md5.Size || string(data[:len(magic)]) != magic {
		return nil, false
	}
	body, sum := data[len(magic):len(data)-md5.Size], data[len(data)-md5.Size:]
	if want := md5.Sum(body); !bytes.Equal(sum, want[:]) {
		return nil, false
	}
	return parse(body)
}
