package objects

import (
	"context"
	"errors"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// A Listing says which objects of a bucket are wanted.
type Listing struct {
	Prefix    string
	Delimiter string // keys that have it behind the prefix are told as one; "": none are
	After     string // keys behind this one
	Folded    string // and none that begin with this; "": of any
	Max       int
}

// A Page is what a Listing found. Prefixes are keys up to the delimiter.
type Page struct {
	Objects  []Info
	Prefixes []string
	// Truncated says that there are more. Next and NextFolded are After and Folded
	// of the next page.
	Truncated        bool
	Next, NextFolded string
}

// List lists a bucket in the order of the keys' bytes.
func (s *Store) List(ctx context.Context, bucket string, l Listing) (Page, error) {
	var p Page
	if _, err := s.Bucket(bucket); err != nil || l.Max <= 0 {
		return p, err
	}
	w := &walker{s: s, bucket: bucket, prefix: l.Prefix, after: l.After, skip: l.Folded, fold: l.Delimiter == "/"}
	var failed error
	w.keys(func(key string, folded bool) bool {
		if failed = ctx.Err(); failed != nil {
			return false
		}
		of := key
		if !folded && l.Delimiter != "" {
			if i := strings.Index(key[len(l.Prefix):], l.Delimiter); i >= 0 {
				of, folded = key[:len(l.Prefix)+i+len(l.Delimiter)], true
			}
		}
		if len(p.Objects)+len(p.Prefixes) == l.Max {
			p.Truncated = true
			return false
		}
		if folded {
			p.Prefixes = append(p.Prefixes, of)
			p.Next, p.NextFolded, w.skip = of, of, of
			return true
		}
		info, err := s.Stat(bucket, key)
		if errors.Is(err, sink.ErrNotFound) {
			return true // deleted since
		}
		p.Objects, p.Next, p.NextFolded = append(p.Objects, info), key, ""
		failed = err
		return err == nil
	})
	return p, errors.Join(failed, w.err)
}
