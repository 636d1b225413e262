package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
)

// movedFile says that a move of the bridge is under way or done. No bridge serves the
// directory while it is there.
const movedFile = "moved"

// A Move is the content of the file moved.
type Move struct {
	State  MoveState `json:"state"`
	At     time.Time `json:"at"`               // since when no device was taken
	To     string    `json:"to,omitempty"`     // host:port that devices were told; "" for none
	Target string    `json:"target,omitempty"` // of the last backup
	Backup string    `json:"backup,omitempty"` // its id, once it is moved
}

// A MoveState is how far a move is.
type MoveState string

// The states. What is neither is read as Moved.
const (
	Drained MoveState = "drained" // all is committed and the stores are closed; the last backup is to be taken
	Moved   MoveState = "moved"   // the last backup is complete
)

// ErrMoved is the error of a directory that was moved, or is being.
var ErrMoved = errors.New("the bridge was moved")

// ReadMove returns the move of a data directory, nil for none.
func ReadMove(dir string) (*Move, error) {
	path := filepath.Join(dir, movedFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // who opens the directory says what it is
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	var m Move
	if err := json.Unmarshal(raw, &m); err != nil || m.State != Drained && m.State != Moved {
		return nil, fmt.Errorf("data_dir: %s is damaged, which says that %w: remove it only if no bridge took over",
			path, ErrMoved)
	}
	return &m, nil
}

// WriteMove makes m durable.
func WriteMove(dir string, m *Move) error {
	raw, err := json.Marshal(m)
	if err == nil {
		err = durable.Write(filepath.Join(dir, movedFile), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

// EndMove takes the move back, durably. None is no error.
func EndMove(dir string) error {
	err := os.Remove(filepath.Join(dir, movedFile))
	if err == nil {
		err = durable.SyncFolder(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

// CheckMove returns ErrMoved, with what to do, for a directory that no bridge may serve.
func CheckMove(dir string) error {
	m, err := ReadMove(dir)
	if m == nil || err != nil {
		return err
	}
	if m.State == Drained {
		return fmt.Errorf("data_dir: %w: a move of %s began at %s and is not finished; tidemill-bridge move "+
			"finish goes on, "+
			"move undo has this bridge go on", ErrMoved, dir, m.At.Format(time.RFC3339))
	}
	to := ""
	if m.To != "" {
		to = " to " + m.To
	}
	return fmt.Errorf("data_dir: %w%s at %s: its last backup is %s in %s; tidemill-bridge move undo has this "+
		"bridge go on, "+
		"as long as no other was restored from that", ErrMoved, to, m.At.Format(time.RFC3339), m.Backup, m.Target)
}
