//go:build !linux

package board

import (
	"errors"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/hal"
)

const eremoteio = syscall.ENXIO

// LineChips needs Linux.
func (b *Board) LineChips() ([]hal.LineChip, error) { return nil, errors.ErrUnsupported }

// A line needs Linux.
type line struct{ poll time.Duration }

func openLine(string, request) (*line, error) { return nil, errors.ErrUnsupported }

func (*line) Read() (bool, error)                     { return false, errors.ErrUnsupported }
func (*line) Get() (bool, error)                      { return false, errors.ErrUnsupported }
func (*line) Set(bool) error                          { return errors.ErrUnsupported }
func (*line) WaitForEdge(time.Duration) bool          { return false }
func (*line) NextEdge(time.Duration) (hal.Edge, bool) { return hal.Edge{}, false }
func (*line) Now() time.Duration                      { return 0 }
func (*line) Close() error                            { return nil }

func openMemory(string) (memory, error) { return nil, errors.ErrUnsupported }

func lineOf(string, string) (label string, offset uint32, err error) {
	return "", 0, errors.ErrUnsupported
}
