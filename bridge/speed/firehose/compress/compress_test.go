package compress

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/snappy"
)

// lines are n bytes of readings in JSON.
func lines(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+128)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, `{"thing":"pi-%04d","ts":%d,"temp":%.2f,"hum":%.1f,"state":"ok"}`+"\n", r.IntN(2000),
			1772366400000+int64(i)*137, 15+r.Float64()*20, 30+r.Float64()*40)
	}
	return b[:n]
}

// readers undo each format, with other code where there is some.
var readers = map[Format]func([]byte) ([]byte, error){
	None: func(b []byte) ([]byte, error) { return b, nil },
	Gzip: func(b []byte) ([]byte, error) {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	},
	Zip: func(b []byte) ([]byte, error) {
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, err
		}
		if len(z.File) != 1 {
			return nil, fmt.Errorf("%d files", len(z.File))
		}
		f, err := z.File[0].Open()
		if err != nil {
			return nil, err
		}
		return io.ReadAll(f)
	},
	Snappy:       func(b []byte) ([]byte, error) { return io.ReadAll(snappy.NewReader(bytes.NewReader(b))) },
	HadoopSnappy: readHadoop,
}

func readHadoop(b []byte) (out []byte, err error) {
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, io.ErrUnexpectedEOF
		}
		block, chunk := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		text, err := snappy.Decode(nil, b[8:8+chunk])
		if err != nil || len(text) != int(block) {
			return nil, fmt.Errorf("a block of %d bytes, want %d: %w", len(text), block, err)
		}
		out, b = append(out, text...), b[8+chunk:]
	}
	return out, nil
}

// written cuts data into writes at random.
func written(t testing.TB, f Format, data []byte, r *rand.Rand) []byte {
	t.Helper()
	var b bytes.Buffer
	w := f.NewWriter(&b)
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 1+r.IntN(1<<r.IntN(20)))
		if k, err := w.Write(rest[:n]); k != n || err != nil {
			t.Fatal(k, err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is read is what was written, and the bytes are the same however they came.
func TestFormats(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	noise := make([]byte, 700<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for f := range formats {
		f := Format(f)
		for name, data := range map[string][]byte{"empty": nil, "short": []byte("x"), "lines": lines(2 << 20),
			"noise": noise, "a block": lines(hadoopBlock)} {
			a, b := written(t, f, data, r), written(t, f, data, r)
			if !bytes.Equal(a, b) {
				t.Errorf("%s, %s: other bytes the second time", f, name)
			}
			if got, err := readers[f](a); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: %d of %d bytes, %v", f, name, len(got), len(data), err)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for f, is := range formats {
		var got Format
		if err := got.UnmarshalText([]byte(is.name)); err != nil || got != Format(f) ||
			got.Extension() != is.extension {
			t.Errorf("%s: %v, %v", is.name, got, err)
		}
	}
	if f, err := Parse(""); f != None || err != nil {
		t.Error(f, err)
	}
	for _, name := range []string{"gzip", "LZO", "SNAPPY"} {
		if _, err := Parse(name); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// What cannot be written is told, at the latest by Close.
func TestWriteFails(t *testing.T) {
	for f := range formats {
		w := Format(f).NewWriter(full{})
		_, err := w.Write(lines(3 << 20))
		if closed := w.Close(); err == nil {
			err = closed
		}
		if !errors.Is(err, errFull) {
			t.Errorf("%s: %v", Format(f), err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	data := lines(8 << 20)
	for f := range formats {
		f := Format(f)
		b.Run(f.String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				w := f.NewWriter(io.Discard)
				for rest := data; len(rest) > 0; rest = rest[min(len(rest), 80):] {
					if _, err := w.Write(rest[:min(len(rest), 80)]); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
