package datadir

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// OpenRegistry opens the registry of a data directory that no program uses.
func OpenRegistry(dir string) (*registry.Registry, error) {
	tables, err := bolt.Open(filepath.Join(dir, "registry.db"), bolt.Options{})
	if err != nil {
		return nil, err
	}
	return registry.New(tables, nil)
}

// A StoppedLog is the log of a data directory that no program uses.
type StoppedLog interface {
	streams.Log
	streams.Keys
	streams.Runner
	// SkipAhead has shards, streams and indexes of shards go on behind a gap; it comes
	// before Run.
	SkipAhead() error
}

// OpenLog opens the log of a data directory that no program uses.
func OpenLog(dir string, log *slog.Logger) (StoppedLog, error) {
	s, err := pebble.Open(filepath.Join(dir, "log"), pebble.Options{Log: log})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Streams are the names of the streams in the log of a data directory that no program
// uses, which stays as it is.
func Streams(dir string) ([]string, error) { return pebble.Names(filepath.Join(dir, "log")) }

// ImportStream makes a stream of the log to of one that the log from has, see
// pebble.Store.Import. Both are of OpenLog, and have not run.
func ImportStream(to, from StoppedLog, name, as, dir string, change func(*streams.Config) error) error {
	t, ok := to.(*pebble.Store)
	f, also := from.(*pebble.Store)
	if !ok || !also {
		return errors.ErrUnsupported
	}
	return t.Import(f, name, as, dir, change)
}
