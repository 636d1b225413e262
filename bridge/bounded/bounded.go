// Package bounded reads what others send or keep without taking more memory than
// was meant.
package bounded

import (
	"errors"
	"fmt"
	"io"
)

// ErrTooLong is of what is longer than it may be.
var ErrTooLong = errors.New("too long")

// ReadAll reads r to its end, of at most so many bytes. Of what is longer it
// returns an error with ErrTooLong, and has read one byte more. The bytes read
// before an error are returned with it.
func ReadAll(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if int64(len(data)) > most {
		return data[:most], fmt.Errorf("%w: more than %d bytes", ErrTooLong, most)
	}
	return data, err
}
