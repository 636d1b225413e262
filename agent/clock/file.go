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

func (r *record) save(dir string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, fileName), append(text, '\n'), 0o600)
}
