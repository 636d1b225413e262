package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/format"
)

// aboutFormat is the number of what About says, and of how the parts are laid out.
const aboutFormat = 1

// An About is what a backup says of the bridge that it is of, beside its files. It is
// encrypted as those are.
type About struct {
	Format    int       `json:"format"`
	Version   string    `json:"version"` // of the program
	Account   string    `json:"account"`
	Region    string    `json:"region"`
	Directory string    `json:"directory"` // identity of the data directory
	Cut       time.Time `json:"cut"`       // the instant that the backup is of
	Held      Duration  `json:"held"`      // how long writers were held for it

	// Final says that nothing was written after the cut, nor will be: the backup is of a
	// bridge that is moved. Else the bridge went on, and its numbers with it.
	Final bool `json:"final,omitempty"`

	Log   streams.Position             `json:"log"`   // how far the log had got
	Keys  map[string]map[string]uint64 `json:"keys"`  // of each bbolt file: how many each bucket has
	Files map[string]Sum               `json:"files"` // of each part, by the first element of its path

	// Elsewhere are the folders of the configuration that do not lie in the data
	// directory, and are in no backup: "objects", "bridge.d", "secrets".
	Elsewhere map[string]string `json:"elsewhere,omitempty"`

	// Unlisted are paths that this version knows nothing of. They are in the backup.
	Unlisted []string `json:"unlisted,omitempty"`
	// Skipped are those that are in no backup: links, pipes, and names that no backup
	// can have.
	Skipped []string `json:"skipped,omitempty"`
}

// A Sum is files and their bytes.
type Sum struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// A Duration is written as Go writes it.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// ParseAbout reads what a backup says. One of a newer version is format.ErrNewer.
func ParseAbout(text []byte) (*About, error) {
	var a About
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("backup: what it says of the bridge: %w", err)
	}
	if err := format.Check(uint64(max(a.Format, 0)), aboutFormat); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if a.Format < 1 || a.Directory == "" {
		return nil, errors.New("backup: it says nothing of a bridge")
	}
	return &a, nil
}
