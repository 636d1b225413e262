package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Note is what the bridge remembers of itself beside its parts.
type Note struct {
	Number uint64           `json:"number"` // grows by one
	Clock  clock.State      `json:"clock"`
	Log    streams.Position `json:"log"` // the log is at least so far
}

// slot is the size of one of two places of the file, which are written in turns: a
// torn one leaves the other. 512 bytes is the smallest sector of disks.
const slot = 512

// notes is the file note. Each slot is "CRC-32 JSON", filled up with spaces.
type notes struct {
	f *os.File

	mu   sync.Mutex // guards last, and one write at a time
	last Note
}

func openNotes(path string) (*notes, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	last, err := lastNote(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &notes{f: f, last: last}, nil
}

// lastNote reads the newest note, whose Number is 0 if there is none.
func lastNote(in io.ReaderAt) (last Note, err error) {
	for i := range int64(2) {
		b := make([]byte, slot)
		if _, err := in.ReadAt(b, i*slot); err != nil && err != io.EOF {
			return last, err
		}
		var m Note
		sum, text, ok := bytes.Cut(bytes.TrimRight(b, " \n\x00"), []byte(" "))
		if ok && string(sum) == checksum(text) && json.Unmarshal(text, &m) == nil && m.Number > last.Number {
			last = m
		}
	}
	return last, nil
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }

// write notes m. Without sync it survives the end of the process, not of the
// machine.
func (n *notes) write(m Note, sync bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	m.Number = n.last.Number + 1
	b, err := m.encode()
	if err != nil {
		return err
	}
	if _, err := n.f.WriteAt(b, int64(m.Number%2)*slot); err != nil {
		return err
	}
	n.last = m
	if sync {
		return n.f.Sync()
	}
	return nil
}

// encode is a slot with m.
func (m *Note) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b := append(append([]byte(checksum(text)), ' '), text...)
	if len(b) > slot-1 {
		return nil, fmt.Errorf("note of %d bytes, want at most %d", len(b), slot-1)
	}
	b = append(b, bytes.Repeat([]byte{' '}, slot-1-len(b))...)
	return append(b, '\n'), nil
}

// File is the content of a file note that has m alone, for a copy of the directory.
func (m *Note) File() ([]byte, error) {
	b, err := m.encode()
	if err != nil {
		return nil, err
	}
	other := bytes.Repeat([]byte{0}, slot)
	if m.Number%2 == 0 {
		return append(b, other...), nil
	}
	return append(other, b...), nil
}

func (n *notes) close() error { return n.f.Close() }

// Note returns the last note; ok is false if there is none.
func (d *Dir) Note() (n Note, ok bool) {
	d.notes.mu.Lock()
	defer d.notes.mu.Unlock()
	return d.notes.last, d.notes.last.Number > 0
}

// WriteNote notes n, synced if sync is set.
func (d *Dir) WriteNote(n Note, sync bool) error {
	if err := d.notes.write(n, sync); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

// A Log is what a note is compared with.
type Log interface {
	Position() streams.Position
	Missing() int         // commits, about, of a hole before the position
	ForgetMissing() error // makes Missing 0, durably
}

// CheckLog returns an error if the log has got less far than was noted, or has a
// hole: what is missing was acknowledged.
func (d *Dir) CheckLog(log Log) error {
	n, ok := d.Note()
	lost := logLost(filepath.Join(d.path, "log"), n, log.Position(), log.Missing())
	switch {
	case len(lost) > 0 && d.is.State == complete && !d.accepts(logPieces):
		return lossError{fmt.Errorf("data_dir: %s", strings.Join(lost, "\n"))}
	case !ok && d.is.State == complete:
		d.log.Warn("there is no note of how far the log has got: it is taken as it is", "file", d.notes.f.Name())
	}
	if len(lost) == 0 && slices.Contains(d.is.Lost, logPieces) {
		lost = []string{filepath.Join(d.path, "log") + " is what could be read of a damaged one"}
	}
	for _, why := range lost {
		d.log.Error("a part of the log is lost, the bridge goes on without it, as accepted",
			"why", why, "noted", n.Clock.Wall)
	}
	if log.Missing() > 0 {
		return log.ForgetMissing()
	}
	return nil
}

// logLost tells what is missing of the log at path, of which n was noted: it is at
// now and misses so many commits before that.
func logLost(path string, n Note, now streams.Position, missing int) (lost []string) {
	if missing > 0 {
		lost = append(lost, fmt.Sprintf(
			"%s has a hole: about %d commits that were acknowledged are missing, a file *.log is gone",
			path, missing))
	}
	if now.Commits < n.Log.Commits {
		lost = append(lost, fmt.Sprintf(
			"%s ends early: %d commits and %d records that were acknowledged are missing at its end",
			path, n.Log.Commits-now.Commits, int64(n.Log.Records-now.Records)))
	}
	return lost
}
