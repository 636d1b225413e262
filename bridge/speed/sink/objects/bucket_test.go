package objects

import (
	"errors"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// What was begun before its bucket was deleted does not bring it back; what Put
// writes makes its bucket.
func TestDeletedBucketStaysAway(t *testing.T) {
	for _, key := range []string{"a", "a/b", "a//b"} { // the last is no path
		s := open(t, Options{})
		if err := s.CreateBucket("bucket"); err != nil {
			t.Fatal(err)
		}
		w, err := s.Create("bucket", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteBucket("bucket"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(key, Attributes{}, Condition{}); !errors.Is(err, ErrNoBucket) {
			t.Errorf("%s: %v", key, err)
		}
		if _, err := s.Begin("bucket", Upload{Key: key}); !errors.Is(err, ErrNoBucket) {
			t.Errorf("an upload of %s: %v", key, err)
		}
		if _, err := s.Bucket("bucket"); !errors.Is(err, ErrNoBucket) {
			t.Errorf("%s: the bucket is back: %v", key, err)
		}
		if _, open := s.Usage(); open != (Uploads{}) {
			t.Errorf("%+v are open", open)
		}
		if err := s.Put(t.Context(), "bucket", key, text("x")); err != nil {
			t.Error(err)
		}
		if got, _, err := s.Get(t.Context(), "bucket", key, 9); string(got) != "x" || errors.Is(err, sink.ErrNotFound) {
			t.Errorf("%q, %v", got, err)
		}
	}
}
