package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestTrim(t *testing.T) {
	s, err := Open("log", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	defer func() {
		cancel()
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Create("a", Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // four blocks of ten records
		b := s.NewBatch()
		for j := range 10 {
			b.Append("a", 0, Record{Data: []byte(fmt.Sprint(10*i + j))})
		}
		if err := s.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ before, oldest uint64 }{{0, 0}, {9, 0}, {10, 10}, {25, 20}, {12, 20}, {40, 40}, {99, 40}} {
		if err := s.Trim("a", 0, c.before); err != nil {
			t.Fatal(err)
		}
		oldest, next, err := s.Bounds("a", 0)
		if err != nil || oldest != c.oldest || next != 40 {
			t.Errorf("Trim(%d): %d to %d, %v; want %d to 40", c.before, oldest, next, err, c.oldest)
		}
		recs, err := s.Read("a", 0, 0, 100, 1<<20)
		if err != nil || uint64(len(recs)) != 40-c.oldest || len(recs) > 0 && recs[0].Offset != c.oldest {
			t.Errorf("Trim(%d): %d records to read, %v", c.before, len(recs), err)
		}
	}
	if err := s.Trim("none", 0, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("no stream: %v", err)
	}
}
