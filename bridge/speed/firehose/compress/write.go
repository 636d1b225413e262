package compress

import (
	"archive/zip"
	"encoding/binary"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
)

// gzips are writers that are done: one has 600 KB of tables.
var gzips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one of the package's
	}
	return w
}}

// A pooled gzip writer goes back when it is closed.
type pooled struct{ *gzip.Writer }

// Close implements io.Closer.
func (p pooled) Close() error {
	err := p.Writer.Close()
	p.Reset(nil)
	gzips.Put(p.Writer)
	return err
}

func openGzip(w io.Writer) io.WriteCloser {
	z := gzips.Get().(*gzip.Writer)
	z.Reset(w)
	return pooled{z}
}

// A zipWriter is an archive of one file.
type zipWriter struct {
	archive *zip.Writer
	file    io.Writer
	err     error
}

// zipName is the file's name in the archive. Firehose's is not documented.
const zipName = "data"

func openZip(w io.Writer) io.WriteCloser {
	z := &zipWriter{archive: zip.NewWriter(w)}
	z.archive.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestSpeed)
	})
	z.file, z.err = z.archive.CreateHeader(&zip.FileHeader{Name: zipName, Method: zip.Deflate})
	return z
}

// Write implements io.Writer.
func (z *zipWriter) Write(b []byte) (int, error) {
	if z.err != nil {
		return 0, z.err
	}
	return z.file.Write(b)
}

// Close implements io.Closer.
func (z *zipWriter) Close() error {
	if z.err != nil {
		return z.err
	}
	return z.archive.Close()
}

// A blockWriter hands on blocks of size bytes, but for the last.
type blockWriter struct {
	size  int
	buf   []byte // not handed on yet, shorter than size
	block func([]byte) error
	close func() error // after the last block
}

// Write implements io.Writer.
func (w *blockWriter) Write(b []byte) (n int, err error) {
	if w.buf == nil {
		w.buf = make([]byte, 0, w.size)
	}
	for n < len(b) {
		k := copy(w.buf[len(w.buf):w.size], b[n:])
		w.buf = w.buf[:len(w.buf)+k]
		n += k
		if len(w.buf) == w.size {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (w *blockWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	block := w.buf
	w.buf = w.buf[:0]
	return w.block(block)
}

// Close implements io.Closer.
func (w *blockWriter) Close() error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.close()
}

// snappyBlock is the most that readers of the framing format take.
const snappyBlock = 64 << 10

// openSnappy hands on whole blocks, since where a writer of the package is called
// shows in its bytes.
func openSnappy(w io.Writer) io.WriteCloser {
	z := s2.NewWriter(w, s2.WriterSnappyCompat(), s2.WriterBlockSize(snappyBlock), s2.WriterConcurrency(1))
	return &blockWriter{size: snappyBlock, close: z.Close, block: func(b []byte) error {
		_, err := z.Write(b)
		return err
	}}
}

// hadoopBlock is how much is compressed at once (Hadoop,
// io.compression.codec.snappy.buffersize: 256 KiB).
const hadoopBlock = 256 << 10

// openHadoopSnappy writes what Hadoop's SnappyCodec reads: for each block its
// length, then of its one chunk the compressed length and the chunk, lengths in
// 4 bytes, the highest first.
func openHadoopSnappy(w io.Writer) io.WriteCloser {
	out := make([]byte, 8+s2.MaxEncodedLen(hadoopBlock))
	return &blockWriter{size: hadoopBlock, close: func() error { return nil }, block: func(b []byte) error {
		chunk := s2.EncodeSnappy(out[8:], b)
		binary.BigEndian.PutUint32(out, uint32(len(b)))
		binary.BigEndian.PutUint32(out[4:], uint32(len(chunk)))
		_, err := w.Write(out[:8+len(chunk)])
		return err
	}}
}
