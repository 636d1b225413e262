package search

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestResults(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         []int // status of each, 0 is written; nil: no answer
	}{
		{"written, there, busy, wrong", `{"errors":true,"items":[{"index":{"status":201}},` +
			`{"index":{"status":409}},{"index":{"status":429,"error":{"type":"t"}}},{"index":{"status":400}}]}`,
			[]int{0, 0, 429, 400}},
		{"too few", `{"items":[{"index":{"status":200}}]}`, nil},
		{"another operation", `{"items":[{"create":{"status":200}},{"create":{"status":200}},` +
			`{"create":{"status":200}},{"create":{"status":200}}]}`,
			nil},
		{"no JSON", `<html>`, nil},
	} {
		errs, err := results([]byte(c.answer), "index", 4)
		if (err == nil) != (c.want != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		for i, err := range errs {
			got := 0
			if e, ok := errors.AsType[*StatusError](err); ok {
				got = e.Status
			}
			if got != c.want[i] {
				t.Errorf("%s: document %d: %v", c.name, i, err)
			}
		}
	}
}

func TestReasonIsShort(t *testing.T) {
	if got := short("failed to parse. Preview of field's value: 'hidden'"); got != "failed to parse." {
		t.Error(got)
	}
	if got := short(strings.Repeat("é", 500)); len(got) > maxReason+4 {
		t.Error(len(got))
	}
}

// FuzzResults: whatever a service answers, there is a result for each document,
// or an error.
func FuzzResults(f *testing.F) {
	f.Add([]byte(`{"items":[{"index":{"status":201}},{"index":{"status":429,"error":{"type":"t","reason":"r"}}}]}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if errs, err := results(answer, "index", 2); (err == nil) != (len(errs) == 2) {
			t.Fatalf("%d results, %v", len(errs), err)
		}
	})
}

// No error says the URL, which may have a key in it.
func TestErrorsHaveNoURL(t *testing.T) {
	for _, url := range []string{"http://127.0.0.1:1/hidden", "http://h:x/hidden"} {
		c := New(Options{URL: url, HTTP: http.DefaultClient})
		doc := &Document{Index: "i", ID: "1", Source: []byte("{}")}
		if err := c.Put(t.Context(), doc); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("one at %s: %v", url, err)
		}
		if _, err := c.Bulk(t.Context(), []*Document{doc}); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("bulk at %s: %v", url, err)
		}
	}
}
