package search

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// A search that does not answer ends a request after Timeout.
func TestRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{URL: "http://search.test", HTTP: &http.Client{Transport: counterpart.Silent{}}})
		doc := &Document{Index: "i", ID: "1", Source: []byte("{}")}
		began := time.Now()
		if err := c.Put(t.Context(), doc); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != timeout {
			t.Errorf("a put ended after %v: %v", time.Since(began), err)
		}
		began = time.Now()
		_, err := c.Bulk(t.Context(), []*Document{doc})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != timeout {
			t.Errorf("a bulk ended after %v: %v", time.Since(began), err)
		}
	})
}
