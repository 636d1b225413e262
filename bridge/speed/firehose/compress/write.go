package compress

import (
	"archive/zip"
	"encoding/binary"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
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

func openSnappy(w io.Writer) io.WriteCloser { return snappy.NewBufferedWriter(w) }

// hadoopBlock is how much is compressed at once (Hadoop,
// io.compression.codec.snappy.buffersize: 256 KiB).
const hadoopBlock = 256 << 10

// A hadoopWriter writes what Hadoop's SnappyCodec reads: for each block its
// length, then of its one chunk the compressed length and the chunk, lengths in
// 4 bytes, the highest first.
type hadoopWriter struct {
	w   io.Writer
	buf []byte // not compressed yet, shorter than a block
	out []byte
}

func openHadoopSnappy(w io.Writer) io.WriteCloser {
	return &hadoopWriter{w: w, buf: make([]byte, 0, hadoopBlock)}
}

// Write implements io.Writer.
func (h *hadoopWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		k := copy(h.buf[len(h.buf):hadoopBlock], b[n:])
		h.buf = h.buf[:len(h.buf)+k]
		n += k
		if len(h.buf) == hadoopBlock {
			if err := h.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (h *hadoopWriter) flush() error {
	if len(h.buf) == 0 {
		return nil
	}
	if h.out == nil {
		h.out = make([]byte, 8+s2.MaxEncodedLen(hadoopBlock))
	}
	chunk := s2.EncodeSnappy(h.out[8:], h.buf)
	binary.BigEndian.PutUint32(h.out, uint32(len(h.buf)))
	binary.BigEndian.PutUint32(h.out[4:], uint32(len(chunk)))
	h.buf = h.buf[:0]
	_, err := h.w.Write(h.out[:8+len(chunk)])
	return err
}

// Close implements io.Closer.
func (h *hadoopWriter) Close() error { return h.flush() }
