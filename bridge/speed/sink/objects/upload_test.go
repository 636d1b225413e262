package objects

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

func begin(t *testing.T, s *Store, u Upload) Upload {
	t.Helper()
	u, err := s.Begin("bucket", u)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func putPart(t *testing.T, s *Store, u Upload, n int, text string) Part {
	t.Helper()
	w, err := s.Create("bucket", int64(len(text)), u.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	info, err := w.CommitPart(u, n)
	if err != nil {
		t.Fatal(err)
	}
	return Part{Number: n, ETag: info.ETag, Sums: info.Sums}
}

func TestUpload(t *testing.T) {
	s := open(t, Options{MinPart: 4})
	if err := s.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	a := Attributes{User: map[string]string{"a": "b"}}
	u := begin(t, s, Upload{Key: "a/b", Algorithm: CRC32C, Attributes: a})
	one, three := putPart(t, s, u, 1, "12345"), putPart(t, s, u, 3, "6789")
	small, replaced := putPart(t, s, u, 2, "x"), putPart(t, s, u, 5, "old")
	_ = putPart(t, s, u, 5, "the new one")
	for name, c := range map[string]struct {
		parts []Part
		want  error
	}{
		"none":     {nil, ErrNoPart},
		"small":    {[]Part{one, small, three}, ErrPartSmall},
		"order":    {[]Part{three, one}, ErrPartOrder},
		"twice":    {[]Part{one, one}, ErrPartOrder},
		"missing":  {[]Part{one, {Number: 4, ETag: one.ETag}}, ErrNoPart},
		"ETag":     {[]Part{one, replaced}, ErrNoPart},
		"checksum": {[]Part{{Number: 1, ETag: one.ETag, Sums: map[Algorithm]string{CRC32C: "x"}}}, ErrNoPart},
	} {
		if _, err := s.Complete(t.Context(), "bucket", u, c.parts, nil, Condition{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, _, err := s.Get(t.Context(), "bucket", "a/b", 9); !errors.Is(err, sink.ErrNotFound) {
		t.Errorf("before it is complete: %v", err)
	}
	info, err := s.Complete(t.Context(), "bucket", u, []Part{one, three},
		map[Algorithm]string{CRC64NVME: "rosUhgp5mIg="}, Condition{})
	if err != nil {
		t.Fatal(err)
	}
	// The check values of the two CRCs; the ETag is md5(md5(12345) md5(6789)).
	if info.Sums[CRC32C] != "4waSgw==" || info.Sums[CRC64NVME] != "rosUhgp5mIg=" || info.Parts != 2 ||
		!strings.HasSuffix(info.ETag, "-2") || info.User["a"] != "b" {
		t.Errorf("%+v", info)
	}
	if got, _, err := s.Get(t.Context(), "bucket", "a/b", 9); string(got) != "123456789" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.Upload("bucket", "a/b", u.ID); !errors.Is(err, ErrNoUpload) {
		t.Errorf("after it: %v", err)
	}
	if again, ok := s.Completed("bucket", "a/b", u.ID); !ok || again.ETag != info.ETag {
		t.Errorf("again: %+v, %v", again, ok)
	}
	if _, open := s.Usage(); open != (Uploads{}) {
		t.Errorf("%+v", open)
	}
}

// Calls that complete an upload beside each other all return the one object, and none
// puts it in the place of one that came behind it.
func TestCompletedTogether(t *testing.T) {
	s := open(t, Options{MinPart: 1})
	if err := s.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		u := begin(t, s, Upload{Key: "k"})
		parts := []Part{putPart(t, s, u, 1, "a"), putPart(t, s, u, 2, "b"), putPart(t, s, u, 3, "c")}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				info, err := s.Complete(t.Context(), "bucket", u, parts, nil, Condition{})
				if err != nil || info.upload != u.ID || info.Size != 3 {
					t.Errorf("%+v, %v", info, err)
				}
			})
		}
		all.Wait()
		if err := s.Put(t.Context(), "bucket", "k", text("newer")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Complete(t.Context(), "bucket", u, parts, nil, Condition{}); !errors.Is(err, ErrNoUpload) {
			t.Errorf("behind another object: %v", err)
		}
	}
	if n := s.Counters().Written; n != 40 {
		t.Errorf("%d objects were written, want 40", n)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	now := time.Now()
	s := open(t, Options{MaxUploads: 2, MaxUploadBytes: 8, MinPart: 1, Now: func() time.Time { return now }})
	if err := s.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	u := begin(t, s, Upload{Key: "a"})
	putPart(t, s, u, 1, "123456")
	now = now.Add(time.Hour)
	begin(t, s, Upload{Key: "b"})
	if _, err := s.Begin("bucket", Upload{Key: "c"}); !errors.Is(err, ErrTooManyUploads) {
		t.Errorf("a third: %v", err)
	}
	w, err := s.Create("bucket", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fmt.Fprint(w, "789")
	if _, err := w.CommitPart(u, 2); !errors.Is(err, ErrNoRoom) {
		t.Errorf("ninth byte: %v", err)
	}
	putPart(t, s, u, 1, "12345678")
	again, err := Open(s.Path(), Options{}) // as after a crash
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, open := again.Usage(); open != (Uploads{2, 8}) {
		t.Errorf("found %+v", open)
	}
	now = now.Add(7*24*time.Hour - time.Minute)
	if err := s.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, open := s.Usage(); open != (Uploads{Open: 1}) {
		t.Errorf("after a week %+v", open)
	}
	all, err := s.Uploads(t.Context(), "bucket", "")
	if err != nil || len(all) != 1 || all[0].Key != "b" {
		t.Errorf("%+v, %v", all, err)
	}
}

// An upload takes its bytes with it, however it ends, also while a part comes.
func TestUploadsEndWithTheirBytes(t *testing.T) {
	s := open(t, Options{MaxUploadBytes: 20, MinPart: 1})
	for range 50 {
		if err := s.CreateBucket("bucket"); err != nil {
			t.Fatal(err)
		}
		u, v := begin(t, s, Upload{Key: "a"}), begin(t, s, Upload{Key: "b"})
		putPart(t, s, v, 1, "12345")
		var parts sync.WaitGroup
		for n := range 3 {
			w, err := s.Create("bucket", 5)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, "12345")
			parts.Go(func() {
				defer w.Close()
				if _, err := w.CommitPart(u, n+1); err != nil && !errors.Is(err, ErrNoUpload) {
					t.Error(err)
				}
			})
		}
		if err := s.Abort("bucket", u); err != nil {
			t.Error(err)
		}
		parts.Wait()
		if _, open := s.Usage(); open != (Uploads{1, 5}) {
			t.Fatalf("after one was ended: %+v", open)
		}
		if err := s.DeleteBucket("bucket"); err != nil {
			t.Fatal(err)
		}
		if _, open := s.Usage(); open != (Uploads{}) {
			t.Fatalf("after the bucket: %+v", open)
		}
	}
}
