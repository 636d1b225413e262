package secrets

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// redacted stands in the place of a secret.
const redacted = "[redacted]"

const (
	// minRedacted is the length in bytes from which a value is taken out of texts:
	// shorter ones would be found in every other word.
	minRedacted = 4
	// maxKnown bounds how many values are known.
	maxKnown = 10_000
	// scanEvery is how often Redact looks at the whole folder.
	scanEvery = 10 * time.Second
)

// Redact returns a text without the secrets in it: values, members of those that are
// JSON objects, and the values of before; as they are, quoted, in a URL or in base64.
// It is for errors: it looks at the folder, every ten seconds. A nil Store knows none.
func (s *Store) Redact(text string) string {
	if s == nil || text == "" {
		return text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.scanned) >= scanEvery {
		s.scanned = time.Now()
		s.scan()
	}
	return s.known.replace(text)
}

// scan learns the values of all files: what a rule has put into an outbox may be
// older than the program that runs.
func (s *Store) scan() {
	all, _ := os.ReadDir(s.o.Dir) // a folder that is not there has no secrets
	for i, e := range all {
		if _, _, _, ok := parseName(e.Name()); !ok || i >= 2*maxKept {
			continue
		}
		if value, err := readFile(filepath.Join(s.o.Dir, e.Name())); err == nil {
			s.known.add(value)
		}
	}
}

// known are values that are taken out of texts.
type known struct {
	values   map[string]bool
	replacer *strings.Replacer // nil: to be made of values
}

func (k *known) add(value []byte) {
	for _, v := range parts(value) {
		if len(v) < minRedacted || k.values[v] {
			continue
		}
		if k.values == nil || len(k.values) >= maxKnown {
			k.values = map[string]bool{}
		}
		k.values[v], k.replacer = true, nil
	}
}

// parts are a value, and the texts and numbers in it if it is JSON.
func parts(value []byte) []string {
	all := []string{string(value)}
	var doc any
	dec := json.NewDecoder(strings.NewReader(string(value)))
	dec.UseNumber()
	if dec.Decode(&doc) == nil {
		all = leaves(all, doc)
	}
	return all
}

func leaves(all []string, v any) []string {
	switch v := v.(type) {
	case string:
		return append(all, v)
	case json.Number:
		return append(all, v.String())
	case []any:
		for _, x := range v {
			all = leaves(all, x)
		}
	case map[string]any:
		for _, x := range v {
			all = leaves(all, x)
		}
	}
	return all
}

// spellings are how texts may have a value.
func spellings(v string) []string {
	quoted, _ := json.Marshal(v) // a string always can be
	goQuoted := strconv.Quote(v)
	return []string{v, url.QueryEscape(v), url.PathEscape(v), string(quoted[1 : len(quoted)-1]),
		goQuoted[1 : len(goQuoted)-1], base64.StdEncoding.EncodeToString([]byte(v))}
}

func (k *known) replace(text string) string {
	if k.replacer == nil {
		var all []string
		for v := range k.values {
			all = append(all, spellings(v)...)
		}
		// The longest first: a value may be a part of another.
		slices.SortFunc(all, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
		})
		var pairs []string
		for _, v := range slices.Compact(all) {
			pairs = append(pairs, v, redacted)
		}
		k.replacer = strings.NewReplacer(pairs...)
	}
	return k.replacer.Replace(text)
}
