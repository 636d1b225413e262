package clock

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/tidemill/tidemill/agent/durable"
)

// fileName is in data_dir.
const fileName = "clock.json"

const (
	fileVersion = 1
	maxFile     = 256 << 10 // bytes; one of maxBoots has some 20 KiB
	maxBoots    = 64
	maxStarts   = 256 // of all boots
	// farthest bounds each number of a file, so that sums of them stay numbers: the
	// year 36812.
	farthest = 1 << 50
)

// A record is what the file holds.
type record struct {
	Version int     `json:"version"`
	Floor   int64   `json:"floor_ms"`
	Boots   []*boot `json:"boots"`

	news urgency // with which it is written
}

func (r *record) check() error {
	number := func(n int64) bool { return n >= -farthest && n <= farthest }
	if r.Version != fileVersion {
		return fmt.Errorf("version %d, want %d", r.Version, fileVersion)
	}
	ok := number(r.Floor) && len(r.Boots) <= maxBoots && !slices.Contains(r.Boots, nil)
	for _, b := range r.Boots {
		ok = ok && b != nil && b.Last >= 0 && b.Last <= farthest && number(b.Guess) && number(b.Floor) &&
			b.FloorAt >= 0 && b.FloorAt <= farthest && len(b.Starts) <= maxStarts &&
			len(b.Anchors) <= maxAnchors
		if !ok {
			break
		}
		for _, a := range b.Anchors {
			ok = ok && a.At >= 0 && a.At <= farthest && number(a.Offset) && a.Bound >= 0 && a.Bound <= farthest
		}
	}
	if !ok {
		return errors.New("what it holds cannot be")
	}
	return nil
}

// parse reads a file's text.
func parse(text []byte) (*record, error) {
	r := &record{}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%d bytes, at most %d", len(text), maxFile)
	}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	return r, r.check()
}

// load returns what is in the file, an empty record if there is none.
func load(dir string) (*record, error) {
	text, err := os.ReadFile(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return &record{Version: fileVersion}, nil
	}
	if err == nil {
		var r *record
		if r, err = parse(text); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("clock: %s: %w", filepath.Join(dir, fileName), err)
}

// write makes a record the file's.
func write(dir string, r *record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, fileName), append(text, '\n'), 0o600)
}

// kept is a copy of what is known, to be written. mu is held.
func (c *Clock) kept() *record {
	rec := &record{Version: fileVersion, Floor: c.h.floor}
	for _, b := range c.h.boots {
		copied := *b
		copied.Starts, copied.Anchors = slices.Clone(b.Starts), slices.Clone(b.Anchors)
		rec.Boots = append(rec.Boots, &copied)
	}
	rec.news = c.news
	c.saved, c.news = c.mono, nothing
	return rec
}

// save writes the file. Failing is no reason to stop: it is tried again as soon as it was due. mu is
// not held, so that readings are taken meanwhile: a card may stall for seconds.
func (c *Clock) save(rec *record) {
	if c.o.Dir == "" || c.o.ReadOnly {
		return
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	err := write(c.o.Dir, rec)
	if err == nil {
		c.unsaved = false
		return
	}
	if !c.unsaved {
		c.o.Log.Warn("what is known of the time could not be written", "err", err)
	}
	c.unsaved = true
	c.mu.Lock()
	c.news = max(c.news, rec.news)
	c.mu.Unlock()
}
