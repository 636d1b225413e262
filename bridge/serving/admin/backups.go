package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
)

// Backups makes those of the data directory; a backup.Service does.
type Backups interface {
	Status() backup.Status
	Take(ctx context.Context, r backup.Request, progress func(backup.Progress)) (*backup.Taken, error)
}

// A BackupLine is one line of the answer to a backup.Request: how far it is; at last the
// backup, an error, or both.
type BackupLine struct {
	backup.Progress
	Taken *backup.Taken `json:"taken,omitempty"`
	Error string        `json:"error,omitempty"`
}

// backupProgressEvery is how often a backup tells of its progress.
const backupProgressEvery = 500 * time.Millisecond

// errElsewhere is what a row is told that is not for such requests: where all that the
// bridge has could be read is a right of its own.
var errElsewhere = badRequest{errors.New("a target or recipients of one's own: want /v1/backups/elsewhere")}

type backups struct{ backups Backups }

// status answers what is known of backups.
func (h *backups) status(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, h.backups.Status())
}

// here answers a backup.Request for what is configured, elsewhere one that names a target
// or readers: with BackupLines. The backup is called off when the client leaves.
func (h *backups) here(w http.ResponseWriter, r *http.Request) error      { return h.take(w, r, false) }
func (h *backups) elsewhere(w http.ResponseWriter, r *http.Request) error { return h.take(w, r, true) }

func (h *backups) take(w http.ResponseWriter, r *http.Request, elsewhere bool) error {
	var in backup.Request
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if in.Elsewhere() && !elsewhere {
		return errElsewhere
	}
	if h.backups.Status().Running {
		return backup.ErrBusy
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	say := func(line BackupLine) error {
		if err := enc.Encode(line); err != nil {
			return err
		}
		return rc.Flush()
	}
	if err := say(BackupLine{}); err != nil { // it is in the audit log from here on
		return err
	}
	reported := time.Now()
	taken, err := h.backups.Take(r.Context(), in, func(p backup.Progress) {
		if time.Since(reported) >= backupProgressEvery {
			reported = time.Now()
			_ = say(BackupLine{Progress: p}) // when nobody is there any more the context ends
		}
	})
	last := BackupLine{Taken: taken}
	if err != nil {
		last.Error = err.Error()
	}
	return say(last)
}
