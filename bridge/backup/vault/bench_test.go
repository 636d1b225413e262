package vault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"filippo.io/age"
)

// benchBytes is how much is written: readings as JSON, which zstd makes a fifth of.
const benchBytes = 256 << 20

// readings is content in which no piece is there twice.
func readings() []byte {
	r, base := rand.New(rand.NewPCG(1, 2)), make([]byte, 0, 1<<20+200)
	for len(base) < 1<<20 {
		base = fmt.Appendf(base, `{"temperature":%.3f,"humidity":%.2f,"timestamp":%d,"thing":"thing-%d"}`+"\n",
			r.Float64()*40, r.Float64()*100, 1_796_000_000+r.IntN(1_000_000), r.IntN(10_000))
	}
	data := bytes.Repeat(base[:1<<20], benchBytes>>20)
	for i := 0; i < len(data); i += 4 << 10 {
		binary.LittleEndian.PutUint64(data[i:], uint64(i)*0x9E3779B97F4A7C15)
	}
	return data
}

func (b *bench) one(tb testing.TB, name string, meta FileMeta, data []byte) {
	w, err := NewWriter(tb.Context(), b.target, b.options())
	must(tb, err)
	defer w.Close()
	must(tb, w.File(tb.Context(), name, meta, bytes.NewReader(data)))
	_, err = w.Commit(tb.Context(), nil)
	must(tb, err)
}

// processor reports the processor time of a run, which depends less on what else the
// machine does.
func processor(b *testing.B) func() {
	spent := func() float64 {
		var u syscall.Rusage
		must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
	}
	before := spent()
	return func() { b.ReportMetric((spent()-before)/float64(b.N)/(benchBytes>>20), "cpu-ms/MiB") }
}

// BenchmarkVault is a backup into a folder and back, beside a plain copy that is synced.
func BenchmarkVault(b *testing.B) {
	data := readings()
	for _, kind := range []struct {
		name string
		meta FileMeta
	}{{"table", FileMeta{Size: benchBytes, Same: "table"}}, {"database", FileMeta{Size: benchBytes}}} {
		b.Run(kind.name+"/backup", func(b *testing.B) {
			b.SetBytes(benchBytes)
			defer processor(b)()
			for b.Loop() {
				newBench(b).one(b, "data", kind.meta, data)
			}
		})
		x := newBench(b)
		x.one(b, "data", kind.meta, data)
		b.Run(kind.name+"/again", func(b *testing.B) {
			b.SetBytes(benchBytes)
			defer processor(b)()
			for b.Loop() {
				x.one(b, "data", kind.meta, data)
			}
		})
		b.Run(kind.name+"/restore", func(b *testing.B) {
			b.SetBytes(benchBytes)
			defer processor(b)()
			for b.Loop() {
				benchRestore(b, x)
			}
		})
	}
	b.Run("copy", func(b *testing.B) {
		b.SetBytes(benchBytes)
		defer processor(b)()
		for b.Loop() {
			f, err := os.Create(filepath.Join(b.TempDir(), "copy"))
			must(b, err)
			_, err = io.Copy(f, bytes.NewReader(data))
			must(b, err)
			must(b, f.Sync())
			must(b, f.Close())
		}
	})
}

func benchRestore(b *testing.B, x *bench) {
	r, err := OpenReader(b.Context(), x.target, Latest, []age.Identity{x.key})
	must(b, err)
	in, err := r.Open(b.Context(), "data")
	must(b, err)
	f, err := os.Create(filepath.Join(b.TempDir(), "data"))
	must(b, err)
	n, err := io.Copy(f, in)
	if err != nil || n != benchBytes {
		b.Fatalf("%d bytes, %v", n, err)
	}
	must(b, in.Close())
	must(b, f.Sync())
	must(b, f.Close())
}
