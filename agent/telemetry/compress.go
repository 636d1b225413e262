package telemetry

import (
	"github.com/klauspost/compress/zstd"
)

// minCompress is the smallest body worth a try: below it the frame's own
// header (5 to 9 bytes) and tables eat what zstd finds in columns that are
// bit-packed already.
const minCompress = 192

// One encoder and one decoder serve the process; both are safe for concurrent
// EncodeAll and DecodeAll and keep no goroutine. The window is small and the
// concurrency 1 since the agent's memory is what counts.
//
// They hold channels, and a channel made inside a testing/synctest bubble must
// not be used outside of it: so they are made here and not at first use.
var zstdWriter, zstdReader = func() (*zstd.Encoder, *zstd.Decoder) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(64<<10),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true))
	if err != nil {
		panic(err) // the options are constant
	}
	w.EncodeAll(nil, nil) // makes the channel
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBody),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err)
	}
	return w, r
}()

// compress returns the body as one zstd frame, if that is smaller.
func (e *encoder) compress() ([]byte, bool) {
	if len(e.body) < minCompress {
		return nil, false
	}
	e.packed = zstdWriter.EncodeAll(e.body, e.packed[:0])
	return e.packed, len(e.packed) < len(e.body)
}

// decompress returns the content of one zstd frame, in buf if it has room.
// The frame must state its size: so nothing is allocated that it lies about.
func decompress(buf, in []byte) ([]byte, bool) {
	var h zstd.Header
	if h.Decode(in) != nil || h.Skippable || !h.HasFCS || h.DictionaryID != 0 || h.FrameContentSize > maxBody {
		return buf, false
	}
	buf = sized(buf, int(h.FrameContentSize))
	out, err := zstdReader.DecodeAll(in, buf[:0:len(buf)])
	if err != nil || len(out) != len(buf) {
		return buf, false
	}
	return out, true
}
