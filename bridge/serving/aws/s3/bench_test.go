package s3

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tidemill/tidemill/agent/durable"
)

var sizes = []struct {
	name  string
	bytes int
}{{"1KiB", 1 << 10}, {"8MiB", 8 << 20}}

// BenchmarkPut compares PutObject over HTTP on loopback, client included, with
// the store alone and with a plain file that is written, synced and renamed, and
// whose folder is synced.
func BenchmarkPut(b *testing.B) {
	for _, size := range sizes {
		data := bytes.Repeat([]byte("0123456789abcdef"), size.bytes/16)
		dir := b.TempDir()
		run := func(name string, put func(i int) error) {
			b.Run(size.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(size.bytes))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := put(i); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("file", func(i int) error {
			return durable.Write(filepath.Join(dir, fmt.Sprint(i%1000)), data, 0o600)
		})
		x := newSite(b, false)
		run("store", func(i int) error {
			return x.store.Put(b.Context(), "bucket", fmt.Sprint(i%1000), func(w io.Writer) error {
				_, err := w.Write(data)
				return err
			})
		})
		run("s3", func(i int) error {
			key := fmt.Sprint(i % 1000)
			_, err := x.PutObject(b.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key,
				Body: bytes.NewReader(data)})
			return err
		})
	}
}

// BenchmarkGet compares GetObject over HTTP on loopback with reading a file.
func BenchmarkGet(b *testing.B) {
	for _, size := range sizes {
		x, key := newSite(b, false), "k"
		data := bytes.Repeat([]byte("0123456789abcdef"), size.bytes/16)
		x.put(b, key, string(data))
		b.Run(size.name+"/file", func(b *testing.B) {
			b.SetBytes(int64(size.bytes))
			for b.Loop() {
				f, err := os.Open(filepath.Join(x.store.Path(), "bucket", key))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, onlyReader{f})
				f.Close()
			}
		})
		b.Run(size.name+"/s3", func(b *testing.B) {
			b.SetBytes(int64(size.bytes))
			for b.Loop() {
				out, err := x.GetObject(b.Context(), &s3.GetObjectInput{Bucket: bucket, Key: &key})
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, out.Body)
				if err != nil || n != int64(size.bytes) {
					b.Fatal(n, err)
				}
				out.Body.Close()
			}
		})
	}
}

// onlyReader hides what io.Copy would use instead of reading.
type onlyReader struct{ io.Reader }
