package pebble

import "encoding/binary"

// Key space; the first byte says what a key holds. FORMAT.md has the table.
const (
	tagNextID   = 0x01 // id the next stream gets
	tagStream   = 0x02 // + name: the stream's id and configuration
	tagPosition = 0x03 // + slot: how much was ever committed
	tagFormat   = 0x04 // the layout's number
	tagMeta     = 0x08 // + the caller's key
	tagShard    = 0x09 // + id, shard: its range and lineage, of streams that were resharded
	tagGap      = 0x0a // + id, shard: offsets that no record has
	tagTrim     = 0x10 // + id, shard: where the shard now begins
	tagBlock    = 0x11 // + id, shard, first offset: a block of records
)

const (
	trimKeyLen  = 1 + 4 + 4
	blockKeyLen = 1 + 4 + 4 + 8
)

func streamKey(name string) []byte { return append([]byte{tagStream}, name...) }

func metaKey(key []byte) []byte {
	k := make([]byte, 1+len(key))
	putMetaKey(k, key)
	return k
}

func putMetaKey(k, key []byte) {
	k[0] = tagMeta
	copy(k[1:], key)
}

func shardPrefix(tag byte, id uint32, shard int) []byte {
	k := make([]byte, trimKeyLen, blockKeyLen)
	k[0] = tag
	binary.BigEndian.PutUint32(k[1:], id)
	binary.BigEndian.PutUint32(k[5:], uint32(shard))
	return k
}

func trimKey(id uint32, shard int) []byte { return shardPrefix(tagTrim, id, shard) }

func blockKey(id uint32, shard int, first uint64) []byte {
	k := make([]byte, blockKeyLen)
	putBlockKey(k, id, shard, first)
	return k
}

func putBlockKey(k []byte, id uint32, shard int, first uint64) {
	k[0] = tagBlock
	binary.BigEndian.PutUint32(k[1:], id)
	binary.BigEndian.PutUint32(k[5:], uint32(shard))
	binary.BigEndian.PutUint64(k[9:], first)
}

// blockFirst is the offset in a block's key.
func blockFirst(k []byte) uint64 { return binary.BigEndian.Uint64(k[9:blockKeyLen]) }

// streamRange is the range of all keys with tag of stream id.
func streamRange(tag byte, id uint32) (lower, upper []byte) {
	lower = binary.BigEndian.AppendUint32([]byte{tag}, id)
	if id == 1<<32-1 {
		return lower, []byte{tag + 1}
	}
	return lower, binary.BigEndian.AppendUint32([]byte{tag}, id+1)
}

func streamPrefix(tag byte, id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{tag}, id) }

// prefixEnd is the first key after all that begin with p, or nil.
func prefixEnd(p []byte) []byte {
	end := append([]byte(nil), p...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
