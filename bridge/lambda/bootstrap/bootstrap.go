// Package bootstrap has the programs that run handlers in Python and Node.js on
// the host's interpreters. They speak the Runtime API as AWS's own clients do,
// which are native programs and would have to be built for each interpreter.
//
// They lack those clients' response streaming, and log what a handler prints as it
// is, without a time and the request's id before it.
package bootstrap

import (
	"embed"
	"path/filepath"

	"github.com/tidemill/tidemill/agent/durable"
)

//go:embed bootstrap.py bootstrap.mjs
var files embed.FS

// Names of the programs.
const (
	Python = "bootstrap.py"
	Node   = "bootstrap.mjs"
)

// Write writes the programs into a folder.
func Write(dir string) error {
	for _, name := range []string{Python, Node} {
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if err := durable.Write(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
