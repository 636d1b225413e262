// Package format is the number of a store's layout on the disk.
//
// Each store (the log, the sessions in it, the registry, shadows, a spool) keeps
// one number. It is raised when the layout changes so that an earlier version
// could not read it, or would read it wrongly. A program upgrades what is older
// and refuses what is newer than itself: it must neither write to it nor set it
// aside as damaged.
//
// Until the number is raised, the program of before can be started again over the
// same data and loses nothing. A bridge raises it at its first start over older data
// (of the log with the first commit), and says so before that, with the way back
// (package datadir). A record whose own version an earlier program does not know raises
// the number of its store: that program would leave the record out and go on.
package format

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrNewer marks data that a newer version wrote.
var ErrNewer = errors.New("a newer version wrote it; start that version, or restore what was there before it")

// Text is a number as a store keeps it.
func Text(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }

// Parse reads what a store keeps; 0 of nil, of a store that has no number.
func Parse(text []byte) (uint64, error) {
	if text == nil {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("format %q", text)
	}
	return n, nil
}

// Check returns an error with ErrNewer, which names both numbers, if data have a
// higher number than the program knows.
func Check(has, knows uint64) error {
	if has > knows {
		return fmt.Errorf("format %d, this program knows up to %d: %w", has, knows, ErrNewer)
	}
	return nil
}
