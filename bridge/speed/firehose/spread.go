package firehose

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// maxPartitions is how many partitions of a delivery stream are filled at once
// (Firehose quotas: 500, on request more).
const maxPartitions = 500

// maxKey is how long an object's key may be, in bytes (S3 user guide, object keys);
// keyRest what Key makes at most beside the prefix, the name and the extension: two
// numbers, a time and a UUID.
const (
	maxKey  = 1024
	keyRest = 100
)

// A spreadItem is a record on its way to a partition.
type spreadItem struct {
	Data    []byte
	Arrived time.Time
	Lambda  map[string]string // partition keys that a function gave
}

// A prefixGroup is the records of one prefix.
type prefixGroup struct {
	Values Values // of the prefix: At is the arrival of the oldest of the records
	Items  []int  // indices, ascending
}

// A spread puts records into partitions. What it does depends on the
// configuration and the records alone, so that a repetition does the same.
// Whoever fills buffers across calls of Add keeps one spread, and ends a partition
// with Done when its object is planned.
type spread struct {
	prefix Prefix
	part   *Partitioning
	most   int
	bytes  int // that a prefix may have, so that a key can be made of it
	active map[string]bool
}

// newSpread returns a spread of a configuration that has a Partitioning.
func newSpread(c *Config) *spread {
	return &spread{prefix: c.Objects.Prefix, part: c.Partitioning, most: maxPartitions, active: map[string]bool{},
		bytes: maxKey - len(c.Name) - len(c.Objects.Suffix) - keyRest}
}

// Add returns the partitions of items, in the order of their first record, by their
// id, and why those that are in none are not.
func (s *spread) Add(items []spreadItem) (parts map[string]*prefixGroup, order []string, refused map[int]*Refusal) {
	parts, refused = map[string]*prefixGroup{}, map[int]*Refusal{}
	for i, it := range items {
		v, why := s.values(it)
		if why != nil {
			refused[i] = why
			continue
		}
		id := s.id(v)
		if !s.active[id] && len(s.active) >= s.most {
			refused[i] = &Refusal{codeActive, "there are as many active partitions as may be"}
			continue
		}
		s.active[id] = true
		p := parts[id]
		if p == nil {
			p = &prefixGroup{Values: v}
			parts[id], order = p, append(order, id)
		}
		if it.Arrived.Before(p.Values.At) {
			p.Values.At = it.Arrived
		}
		p.Items = append(p.Items, i)
	}
	return parts, order, refused
}

// Done says that a partition is filled no more.
func (s *spread) Done(id string) { delete(s.active, id) }

var (
	errKeys  = errors.New("the record gives no partition keys")
	errNoKey = errors.New("no key can be made of it: a zero byte, or bytes that are no UTF-8")
)

// values are those of a record's prefix. Only the keys that the prefix names are
// kept.
func (s *spread) values(it spreadItem) (Values, *Refusal) {
	v := Values{At: it.Arrived, Lambda: pick(s.prefix.Lambda, it.Lambda)}
	if s.part.Query != nil {
		keys, err := s.part.Query.Eval(it.Data)
		if err != nil {
			return v, refusal(codePartition, err)
		}
		v.Query = pick(s.prefix.Query, keys)
	}
	if len(v.Query)+len(v.Lambda) == 0 {
		return v, refusal(codePartition, errKeys)
	}
	prefix, err := s.prefix.Eval(v)
	switch {
	case err != nil:
	case len(prefix) > s.bytes:
		err = fmt.Errorf("%d bytes when evaluated, want at most %d", len(prefix), s.bytes)
	case strings.IndexByte(prefix, 0) >= 0 || !utf8.ValidString(prefix):
		err = errNoKey
	}
	if err != nil {
		return v, refusal(codePrefix, err)
	}
	return v, nil
}

func pick(names []string, from map[string]string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	to := make(map[string]string, len(names))
	for _, n := range names {
		if v, ok := from[n]; ok {
			to[n] = v
		}
	}
	return to
}

// id is the keys' values, which no two partitions share.
func (s *spread) id(v Values) string {
	var b strings.Builder
	for _, from := range []struct {
		names  []string
		values map[string]string
	}{{s.prefix.Query, v.Query}, {s.prefix.Lambda, v.Lambda}} {
		for _, n := range from.names {
			b.WriteString(strings.ReplaceAll(strings.ReplaceAll(from.values[n], `\`, `\\`), "\x00", `\0`))
			b.WriteByte(0)
		}
	}
	return b.String()
}
