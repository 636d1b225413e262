//go:build !linux

package sim

import (
	"errors"
	"fmt"
	"os"
)

// A SerialLine is for Linux.
type SerialLine struct {
	*os.File
	Port string
}

// NewSerialLine is for Linux.
func NewSerialLine() (*SerialLine, error) {
	return nil, fmt.Errorf("serial line: %w", errors.ErrUnsupported)
}
