package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/format"
)

// filledStore makes a store in a folder with one record, and closes it.
func filledStore(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	s, stop := start(t, dir, Options{})
	create(t, s, "s", streams.Config{Shards: 1})
	commit(t, s, func(b *streams.Batch) { b.Append("s", 0, rec("k", "v")) })
	stop()
	return dir
}

// A log of a newer version is refused by all that opens it, and stays as it is.
func TestNewerFormat(t *testing.T) {
	raise := map[string]func(t *testing.T, dir string){
		"ours": func(t *testing.T, dir string) {
			db, err := pebble.Open(dir, &pebble.Options{FS: vfs.Default, FormatMajorVersion: pebble.FormatNewest})
			if err != nil {
				t.Fatal(err)
			}
			if v, closer, err := db.Get([]byte{tagFormat}); err != nil || binary.BigEndian.Uint32(v) != FormatNumber {
				t.Fatalf("the number is %x, %v", v, err)
			} else if err := closer.Close(); err != nil {
				t.Fatal(err)
			}
			err = db.Set([]byte{tagFormat}, binary.BigEndian.AppendUint32(nil, FormatNumber+1), pebble.Sync)
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		},
		"Pebble's": func(t *testing.T, dir string) {
			found, err := filepath.Glob(filepath.Join(dir, formatMarker+"*"))
			if err != nil || len(found) != 1 {
				t.Fatalf("%v, %v", found, err)
			}
			if err := os.Rename(found[0], strings.TrimSuffix(found[0], filepath.Ext(found[0]))+".999"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, raise := range raise {
		t.Run(name, func(t *testing.T) {
			dir := filledStore(t)
			raise(t, dir)
			s, err := Open(dir, Options{})
			if err == nil {
				s.Close()
			}
			_, _, verified := Verify(dir, func(int) {}, func(err error) { t.Error(err) })
			for _, err := range []error{err, verified} {
				if !errors.Is(err, format.ErrNewer) || errors.Is(err, streams.ErrCorrupt) {
					t.Errorf("%v", err)
				}
			}
			want := fmt.Sprintf("format %d, this program knows up to %d", FormatNumber+1, FormatNumber)
			if name != "ours" {
				want = "Pebble's format 999, this program knows up to "
			}
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
}
