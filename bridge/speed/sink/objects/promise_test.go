package objects

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// promisedNow is what is promised, and what of it is not written.
func promisedNow(s *Store) (held, ahead int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.promises.held {
		held += n
	}
	return held, s.promises.ahead
}

// However many begin at once, only as many get room as there is for what they said.
func TestRoomIsPromisedOnce(t *testing.T) {
	const size = 5 << 30
	free := func(string) (int64, error) { return 1<<30 + 3*size, nil }
	for name, c := range map[string]struct {
		o    Options
		want error
	}{
		"disk":   {Options{MinFree: 1 << 30, Free: free}, ErrNoRoom},
		"bucket": {Options{MaxBucket: 3*size + 1}, ErrBucketFull},
		"all":    {Options{MaxBytes: 3*size + 1}, ErrNoRoom},
	} {
		s := open(t, c.o)
		put(t, s, "bucket", "k", "x", Attributes{})
		if err := s.tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		var writers []*Writer
		var refused atomic.Int64
		for range 256 {
			all.Go(func() {
				w, err := s.Create("bucket", size)
				if err != nil {
					if !errors.Is(err, c.want) {
						t.Errorf("%s: %v, want %v", name, err, c.want)
					}
					refused.Add(1)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				writers = append(writers, w)
			})
		}
		all.Wait()
		if len(writers) != 3 || refused.Load() != 253 {
			t.Errorf("%s: %d got room, want 3", name, len(writers))
		}
		for _, w := range writers {
			w.Close()
			w.Close()
		}
		if held, ahead := promisedNow(s); held != 0 || ahead != 0 {
			t.Errorf("%s: %d and %d are promised to nobody", name, held, ahead)
		}
		w, err := s.Create("bucket", size)
		if err != nil {
			t.Errorf("%s: after them: %v", name, err)
			continue
		}
		w.Close()
	}
}

// What was promised is given back whatever becomes of the object.
func TestPromisesEnd(t *testing.T) {
	left := int64(8 << 20)
	s := open(t, Options{MinFree: 1, MinPart: 1, MaxUploadBytes: 100,
		Free: func(string) (int64, error) { return left, nil }})
	if err := s.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	u := begin(t, s, Upload{Key: "u"})
	write := func(said int64, n int, end func(*Writer) error) error {
		w, err := s.Create("bucket", said)
		if err != nil {
			return err
		}
		defer w.Close()
		if _, err := w.Write([]byte(strings.Repeat("x", n))); err != nil {
			return err
		}
		if held, ahead := promisedNow(s); held-ahead != int64(n) || held < said {
			t.Errorf("%d promised, %d of it not written, of %d written", held, ahead, n)
		}
		return end(w)
	}
	commit := func(key string, cond Condition) func(*Writer) error {
		return func(w *Writer) error { _, err := w.Commit(key, Attributes{}, cond); return err }
	}
	part := func(w *Writer) error { _, err := w.CommitPart(u, 1); return err }
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"as said":        {write(10, 10, commit("a", Condition{})), nil},
		"less":           {write(1<<20, 10, commit("b", Condition{})), nil},
		"more":           {write(10, 2<<20, commit("c", Condition{})), nil},
		"not said":       {write(0, 10, commit("d", Condition{})), nil},
		"no name":        {write(10, 10, func(*Writer) error { return nil }), nil},
		"condition":      {write(10, 10, commit("a", Condition{Absent: true})), ErrCondition},
		"part":           {write(10, 10, part), nil},
		"part too large": {write(0, 101, part), ErrNoRoom},
		"no room":        {write(0, 9<<20, part), ErrNoRoom},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if _, err := s.Complete(t.Context(), "bucket", u, []Part{putPart(t, s, u, 1, "1"), putPart(t, s, u, 2, "2")}, nil,
		Condition{}); err != nil {
		t.Error(err)
	}
	if held, ahead := promisedNow(s); held != 0 || ahead != 0 {
		t.Errorf("%d and %d are promised to nobody", held, ahead)
	}
}

// While somebody says that nothing is to be written, nothing is begun.
func TestRoomIsAskedFor(t *testing.T) {
	var full atomic.Bool
	s := open(t, Options{Room: func() error {
		if full.Load() {
			return errors.New("full")
		}
		return nil
	}})
	put(t, s, "bucket", "k", "x", Attributes{})
	full.Store(true)
	if _, err := s.Create("bucket", 1); !errors.Is(err, ErrNoRoom) {
		t.Errorf("without room: %v", err)
	}
	if err := s.Delete("bucket", "k", Condition{}); err != nil {
		t.Errorf("a removal: %v", err)
	}
	full.Store(false)
	put(t, s, "bucket", "k", "y", Attributes{})
}
