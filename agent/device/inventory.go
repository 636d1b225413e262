package device

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/agent/spool"
)

// inventoryFile is beside the stores in data_dir and says which there are, so
// that one that is gone or empty is not taken for a first start.
const inventoryFile = "inventory.json"

// maxLosses is how many losses are kept.
const maxLosses = 8

// A Loss is something of data_dir that was there once and is not any more. The
// device goes on without it.
type Loss struct {
	At   time.Time `json:"at"`
	File string    `json:"file"`
	Text string    `json:"text"`
}

// An inventory is what inventoryFile holds.
type inventory struct {
	Spool  string `json:"spool,omitempty"`  // the spool's id, hex
	Shadow bool   `json:"shadow,omitempty"` // there is a shadow.db
	Losses []Loss `json:"losses,omitempty"` // the newest last

	path    string
	log     *slog.Logger
	mu      sync.Mutex // guards all above but for readInventory
	changed bool
}

// readInventory reads the one in dir, empty on the first start.
func readInventory(dir string, log *slog.Logger) *inventory {
	v := &inventory{path: filepath.Join(dir, inventoryFile), log: log}
	text, err := os.ReadFile(v.path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.changed = true
	case err != nil:
		v = &inventory{path: v.path, log: log}
		v.lose(v.path, "is damaged: whether a store is missing cannot be told this time")
	}
	return v
}

// losses returns what was lost, the newest last.
func (v *inventory) losses() []Loss {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.Losses)
}

// lose notes a loss and tells it. mu is held.
func (v *inventory) lose(file, text string) {
	v.log.Error("something of data_dir is lost, the device goes on", "path", file, "what", text)
	v.Losses = append(v.Losses, Loss{At: time.Now().UTC().Round(time.Second), File: filepath.Base(file), Text: text})
	v.Losses = v.Losses[max(0, len(v.Losses)-maxLosses):]
	v.changed = true
}

// salvaged notes what became of a damaged spool, whose id is now id.
func (v *inventory) salvaged(path string, id [16]byte, s spool.Salvage) {
	v.mu.Lock()
	lost := "how many were lost cannot be told"
	if s.Known {
		lost = fmt.Sprintf("%d lost", s.Lost)
	}
	v.lose(path, fmt.Sprintf("was damaged: %d readings in it were saved, %s", s.Saved, lost))
	v.Spool = hex.EncodeToString(id[:])
	v.mu.Unlock()
	v.save()
}

// spool compares the spool that was opened with the one there was. One without
// an id is damaged and waits for room: salvaged follows.
func (v *inventory) spool(path string, st spool.Stats) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := hex.EncodeToString(st.ID[:])
	if st.ID == [16]byte{} || v.Spool == id {
		return
	}
	if v.Spool != "" {
		v.lose(path, "was missing, empty or another's: what waited in it is lost; a new spool with an id of its own is begun")
	}
	v.Spool, v.changed = id, true
}

// shadow notes that there is a shadow.db; fresh says that it was made now.
func (v *inventory) shadow(path string, fresh bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Shadow && fresh {
		v.lose(path, "was missing, empty or damaged: desired comes from the cloud again, changes made here and not sent are lost")
	}
	v.changed = v.changed || !v.Shadow
	v.Shadow = true
}

// save writes the file if there is something new. Failing is no reason to stop:
// the next start tries again.
func (v *inventory) save() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.changed {
		return
	}
	if err := v.write(); err != nil {
		v.log.Warn("the list of data_dir's files could not be written", "path", v.path, "err", err)
		return
	}
	v.changed = false
}

func (v *inventory) write() error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(v.path, append(text, '\n'), 0o600)
}
