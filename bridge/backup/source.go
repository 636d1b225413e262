package backup

import (
	"context"
	"log/slog"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// A BoltFile can be held; the registry's engine and the store of shadows can.
type BoltFile interface {
	// Hold waits for the writer and keeps all others out until Release.
	Hold() (*boltfile.Held, error)
}

// A Log is what a backup needs of the bridge's log; the one in the bridge has it.
type Log interface {
	// BeforeCheckpoint makes a Checkpoint that comes soon a short one.
	BeforeCheckpoint() error
	// Checkpoint makes a copy of the log in the new folder dir, and says how far the log
	// had got. Writers wait meanwhile.
	Checkpoint(dir string) (streams.Position, error)
}

// A Source is an open data directory that is backed up. The bridge over it may run.
type Source struct {
	Dir       string // the data directory
	Directory string // its identity
	// Folders of the configuration that may lie elsewhere, by their names in the data
	// directory: "objects", "bridge.d", "secrets".
	Folders map[string]string

	Version, Account, Region string

	Registry, Shadows BoltFile
	Log               Log
	// Note returns the file note of a log that has got so far.
	Note func(streams.Position) ([]byte, error)

	// Final: nothing is written any more, as of About.
	Final bool

	Slog *slog.Logger
}

// ended returns the error of a context that has ended.
func ended(ctx context.Context) error { return context.Cause(ctx) }
