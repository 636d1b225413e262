//go:build !linux

package cli

import (
	"errors"
	"os"
)

// hideInput cannot hide anything here.
func hideInput(*os.File) (show func(), err error) {
	return nil, errors.New("what is typed cannot be hidden on this system: give the password by standard input")
}
