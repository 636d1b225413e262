package firehose

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
)

// A plan whose records are too much when they are decompressed ends early, and the
// same at each start; each record is delivered once.
func TestMadeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}, fail: func(int) error { return errors.New("away") }}
		fs := vfs.NewMem()
		c := config(t, "a", 1<<20, time.Minute)
		c.Objects.Compression, c.Objects.Suffix = compress.None, ""
		c.Objects.ErrorPrefix = c.Objects.Prefix
		c.Processing.Decompress = true
		for range 2 {
			store, _, stop := runningWith(t, fs, Options{Objects: k, Log: quiet(), mostMade: 1000}, c)
			if k.fail != nil {
				for _, n := range []int{400, 400, 400, 2000, 600, 399} { // the fourth is too much by itself
					put(t, store, "a", string(gzipped(t, strings.Repeat("x", n))))
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			stop()
			k.fail = nil
		}
		var sizes []int
		for _, o := range k.objects {
			sizes = append(sizes, len(o))
		}
		if want := map[int]bool{802: true, 401: true, 2001: true, 1001: true}; len(sizes) != len(want) {
			t.Errorf("objects of %d bytes", sizes)
		} else {
			for _, n := range sizes {
				if !want[n] {
					t.Errorf("objects of %d bytes", sizes)
				}
			}
		}
	})
}

// A part costs more than its bytes where records become many.
func TestPiecesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}}
		c := config(t, "a", 1<<20, time.Second)
		c.Processing.Split = &Splitter{Delimiter: []byte(",")}
		c.Objects.ErrorPrefix = c.Objects.Prefix
		store, s, stop := runningWith(t, vfs.NewMem(), Options{Objects: k, Log: quiet(), mostMade: 4 * pieceBytes}, c)
		defer stop()
		put(t, store, "a", "1,2,3", "4,5,6", "7,8", "9")
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := s.Stats()["a"]; st.Objects != 2 || st.Records != 9 {
			t.Errorf("%+v", st)
		}
	})
}
