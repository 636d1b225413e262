package registry

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// Links are keys of two names with a zero byte between, which no name holds,
// and an empty value. Every relation is kept in both directions.

func link(from, to string) []byte { return []byte(from + "\x00" + to) }

func (t *Tx) linked(bucket []byte, from, to string) bool {
	return t.tx.Table(bucket).Get(link(from, to)) != nil
}

func (t *Tx) addLink(bucket []byte, from, to string) error {
	return t.tx.Table(bucket).Put(link(from, to), []byte{})
}

func (t *Tx) removeLink(bucket []byte, from, to string) error {
	return t.tx.Table(bucket).Delete(link(from, to))
}

// links returns all that from is linked to, in order.
func (t *Tx) links(bucket []byte, from string) []string {
	var out []string
	prefix := link(from, "")
	c := t.tx.Table(bucket).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		out = append(out, string(k[len(prefix):]))
	}
	return out
}

// removeLinks removes all links of from.
func (t *Tx) removeLinks(bucket []byte, from string) error {
	for _, to := range t.links(bucket, from) {
		if err := t.removeLink(bucket, from, to); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) anyLink(bucket []byte, from string) bool {
	prefix := link(from, "")
	k, _ := t.tx.Table(bucket).Cursor().Seek(prefix)
	return bytes.HasPrefix(k, prefix)
}

// pageLinks returns a page of links; see page.
func (t *Tx) pageLinks(bucket []byte, from, after string, n int) (out []string, next string) {
	n = pageSize(n)
	prefix := link(from, "")
	c := t.tx.Table(bucket).Cursor()
	for k, _ := seekAfter(c, prefix, after); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		if len(out) == n {
			return out, out[n-1]
		}
		out = append(out, string(k[len(prefix):]))
	}
	return out, ""
}

// page calls take with the keys of a bucket behind after, until take has said
// true n times. next is what to pass as after for the next page, empty at the end.
func (t *Tx) page(bucket []byte, after string, n int, take func(key string, raw []byte) (bool, error)) (next string,
	err error) {
	n = pageSize(n)
	c := t.tx.Table(bucket).Cursor()
	last, taken := "", 0
	for k, v := seekAfter(c, nil, after); k != nil; k, v = c.Next() {
		if taken == n {
			return last, nil
		}
		ok, err := take(string(k), v)
		if err != nil {
			return "", fmt.Errorf("%q: %w", k, err)
		}
		if last = string(k); ok {
			taken++
		}
	}
	return "", nil
}

func pageSize(n int) int {
	if n <= 0 || n > MaxPage {
		return MaxPage
	}
	return n
}

// seekAfter moves to the first key greater than prefix+after, or the first
// with the prefix if after is empty.
func seekAfter(c table.Cursor, prefix []byte, after string) (k, v []byte) {
	key := append(bytes.Clone(prefix), after...)
	k, v = c.Seek(key)
	if after != "" && bytes.Equal(k, key) {
		return c.Next()
	}
	return k, v
}

// inUse says what is attached to what, at most three by name.
func inUse(what string, attached []string) error {
	const most = 3
	text := strings.Join(attached[:min(most, len(attached))], ", ")
	if more := len(attached) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("%s: %w: %s", what, ErrInUse, text)
}

// each puts a word before each name.
func each(word string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = word + n
	}
	return out
}
