package kinesis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// iteratorLife is how long a shard iterator is good for.
const iteratorLife = 300 * time.Second

// An iterator is a place in a shard. The string that clients get is all there
// is of it, so it outlives a restart. It is not secret: what it says is checked
// where it is used, as what the call would say that made it.
type iterator struct {
	issued   int64 // epoch ms
	stream   uint32
	shard    int
	position uint64 // offset of the next record
	name     string // of the stream
}

// The string is base64 of: 8 bytes 00..01, then issued 8, stream 4, shard 4,
// position 8, length of the name 1, the name, zeros, and at the end the first
// 16 bytes of the SHA-256 of all before. It is as long as the service's own:
// 152 bytes, and 16 more for each 16 of the name's length + 2.
const (
	iteratorVersion = 1
	iteratorHead    = 8 + 8 + 4 + 4 + 8 + 1
	iteratorMin     = 152
	iteratorSum     = 16
	iteratorNameMax = 128
)

func iteratorSize(name int) int { return iteratorMin + (name+2)/16*16 }

func (it *iterator) String() string {
	var room [iteratorMin + (iteratorNameMax+2)/16*16]byte
	b := room[:iteratorSize(len(it.name))]
	binary.BigEndian.PutUint64(b, iteratorVersion)
	binary.BigEndian.PutUint64(b[8:], uint64(it.issued))
	binary.BigEndian.PutUint32(b[16:], it.stream)
	binary.BigEndian.PutUint32(b[20:], uint32(it.shard))
	binary.BigEndian.PutUint64(b[24:], it.position)
	b[32] = byte(len(it.name))
	copy(b[iteratorHead:], it.name)
	body := b[:len(b)-iteratorSum]
	sum := sha256.Sum256(body)
	copy(b[len(body):], sum[:])
	return base64.StdEncoding.EncodeToString(b)
}

var errIterator = errorf(InvalidArgument, "Invalid ShardIterator.")

// parseIterator takes what String writes, also in double quotes, as shells
// leave them around.
func parseIterator(s string) (it iterator, err error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	if len(s) > 512 {
		return it, errIterator
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < iteratorMin || binary.BigEndian.Uint64(b) != iteratorVersion ||
		strings.ContainsAny(s, "\r\n") {
		return it, errIterator
	}
	body := b[:len(b)-iteratorSum]
	n := int(b[32])
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:iteratorSum], b[len(body):]) || len(b) != iteratorSize(n) ||
		n == 0 || n > iteratorNameMax {
		return it, errIterator
	}
	for _, c := range body[iteratorHead+n:] {
		if c != 0 {
			return it, errIterator
		}
	}
	shard := binary.BigEndian.Uint32(b[20:])
	if shard > 1<<31-1 {
		return it, errIterator
	}
	return iterator{
		issued:   int64(binary.BigEndian.Uint64(b[8:])),
		stream:   binary.BigEndian.Uint32(b[16:]),
		shard:    int(shard),
		position: binary.BigEndian.Uint64(b[24:]),
		name:     string(b[iteratorHead : iteratorHead+n]),
	}, nil
}

// check says whether an iterator is too old, or not yet born.
func (it *iterator) check(now time.Time) error {
	age := now.UnixMilli() - it.issued
	if it.issued < 0 || age < -iteratorLife.Milliseconds() { // a clock may go back a little
		return errIterator
	}
	if age > iteratorLife.Milliseconds() {
		const layout = "Mon Jan 02 15:04:05 UTC 2006"
		return errorf(ExpiredIterator, "Iterator expired. The iterator was created at time %s while right now it "+
			"is %s "+
			"which is further in the future than the tolerated delay of %d milliseconds.",
			time.UnixMilli(it.issued).UTC().Format(layout), now.UTC().Format(layout), iteratorLife.Milliseconds())
	}
	return nil
}

// GetShardIterator says where in a shard to read.
func (a API) GetShardIterator(ctx context.Context, in *GetShardIteratorInput) (*GetShardIteratorOutput, error) {
	src, err := a.source(in.StreamRef)
	if err != nil {
		return nil, err
	}
	index, ok := shardIndex(*in.ShardId)
	if !ok {
		return nil, errorf(ResourceNotFound, "Could not find shard %s in stream %s under account %s.", *in.ShardId,
			src.name, a.s.opts.Account)
	}
	position, err := a.position(src, index,
		start{*in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp, "GetShardIterator"})
	if err != nil {
		return nil, err
	}
	if dry(in.DryRun) {
		return nil, errDryRun
	}
	if src.emulate {
		if sh, err := src.shard(a.s.store, index); err == nil && sh != nil && !sh.limit.iterate(a.s.now()) {
			return nil, a.rateExceeded(src, sh.id)
		}
	}
	it := iterator{a.s.now().UnixMilli(), src.flow.id, index, position, src.name}
	s := it.String()
	return &GetShardIteratorOutput{ShardIterator: &s}, nil
}

// A start is where a reader wants to begin.
type start struct {
	kind     string
	sequence *string
	at       *time.Time
	call     string // the operation
}

// position turns a start into the offset of the first record to read.
func (a API) position(src *source, index int, from start) (uint64, error) {
	sh, err := src.shard(a.s.store, index)
	if err != nil {
		return 0, a.noStream(src.name, err)
	}
	if sh == nil {
		return 0, a.noShard(src.name, index)
	}
	_, next, err := a.s.store.Bounds(src.name, index)
	if err != nil {
		return 0, a.gone(src.name, index, err)
	}
	const either = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and " +
		"StartingSequenceNumber or " +
		"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and %s StartingSequenceNumber."
	numbered := from.kind == "AT_SEQUENCE_NUMBER" || from.kind == "AFTER_SEQUENCE_NUMBER"
	switch {
	case numbered && from.sequence == nil:
		return 0, errorf(InvalidArgument, either, from.kind, "no")
	case !numbered && from.sequence != nil:
		return 0, errorf(InvalidArgument, either, from.kind, "also a")
	case numbered:
		return a.numbered(src, &sh.shard, next, from)
	case from.kind == "LATEST":
		return next, nil
	case from.kind == "AT_TIMESTAMP":
		return a.timed(src, index, from)
	}
	return 0, nil // TRIM_HORIZON: reads begin at the oldest record there is
}

func (a API) numbered(src *source, sh *streams.Shard, next uint64, from start) (uint64, error) {
	invalid := func(why string) error {
		return errorf(InvalidArgument, "StartingSequenceNumber %s used in %s on shard %s in stream %s under "+
			"account %s is invalid%s.",
			*from.sequence, from.call, shardID(sh.Index), src.name, a.s.opts.Account, why)
	}
	q, err := parseSequence(*from.sequence)
	if err != nil {
		return 0, invalid("")
	}
	if int(q.shard) != sh.Index {
		return 0, errorf(InvalidArgument,
			"Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s",
			shardID(int(q.shard)), shardID(sh.Index))
	}
	if q.created != unix(sh.Created) {
		return 0, invalid(" because it did not come from this stream")
	}
	// The closing number is after all records, the starting number before them.
	switch {
	case q.counter == lastCounter:
		if now, err := a.shardNow(src, sh.Index); err != nil {
			return 0, err
		} else if now.Open() {
			return 0, invalid("")
		}
		return next, nil
	case q.counter > next:
		return 0, invalid("")
	case q.counter == 0 || from.kind == "AFTER_SEQUENCE_NUMBER":
		return q.counter, nil
	}
	return q.counter - 1, nil
}

func (a API) timed(src *source, index int, from start) (uint64, error) {
	now := a.s.now()
	switch {
	case from.at == nil:
		return 0, errorf(InvalidArgument,
			"Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. "+
				"Current request has no timestamp parameter.")
	case from.at.After(now):
		return 0, errorf(InvalidArgument,
			"The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "+
				"timestampInMillis: %d, currentTimestampInMillis: %d", from.at.UnixMilli(), now.UnixMilli())
	}
	at, err := a.s.store.OffsetAt(src.name, index, *from.at)
	if err != nil {
		return 0, a.gone(src.name, index, err)
	}
	return at, nil
}
