package people

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

const (
	// saveEvery is how often the last uses of keys are written at most: a write is a
	// sync of the disk, and requests come by the thousand.
	saveEvery = 5 * time.Minute
	endAgain  = time.Minute // until the next try to delete a key whose time is over
)

// Used notes that a key signed a request of a service that holds, whether it is a
// user's or a file's.
func (d *Directory) Used(id, service string) {
	now := time.Now().UTC()
	d.useMu.Lock()
	d.uses[id] = registry.KeyUse{At: now, Service: service}
	d.unsaved[id] = true
	d.useMu.Unlock()
}

// LastUse is when a key was used last, and for which service; zero for never.
func (d *Directory) LastUse(id string) registry.KeyUse {
	d.useMu.Lock()
	defer d.useMu.Unlock()
	return d.uses[id]
}

// Run writes last uses every few minutes and at the end, and ends keys whose time
// is over, until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	ends := time.NewTimer(d.nextEnd())
	defer ends.Stop()
	for {
		select {
		case <-save.C:
			if err := d.save(); err != nil {
				d.log.Warn("when access keys were used last could not be written, will retry", "err", err)
			}
		case <-d.changed:
			ends.Reset(d.nextEnd())
		case <-ends.C:
			err := d.store.Update(func(tx *registry.Tx) error { return tx.EndAccessKeys() })
			if err != nil {
				d.log.Warn("access keys whose time is over could not be deleted, will retry; they let nobody in",
					"err", err)
			}
			ends.Reset(d.nextEnd())
		case <-ctx.Done():
			return d.save()
		}
	}
}

// nextEnd is how long it is until a key ends. One that has ended and is still there
// could not be deleted just now.
func (d *Directory) nextEnd() time.Duration {
	const never = 24 * time.Hour // a look that finds nothing
	next := never
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, k := range d.keys {
		if k.Ends.IsZero() {
			continue
		}
		until := time.Until(k.Ends)
		if until <= 0 {
			until = endAgain
		}
		next = min(next, until)
	}
	return next
}

// save writes the uses that are not written yet.
func (d *Directory) save() error {
	d.useMu.Lock()
	all := make(map[string]registry.KeyUse, len(d.unsaved))
	for id := range d.unsaved {
		all[id] = d.uses[id]
	}
	clear(d.unsaved)
	d.useMu.Unlock()
	if len(all) == 0 {
		return nil
	}
	err := d.store.Update(func(tx *registry.Tx) error {
		var errs []error
		for id, u := range all {
			errs = append(errs, tx.SetKeyUse(id, u))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		d.useMu.Lock()
		for id := range maps.Keys(all) {
			d.unsaved[id] = true
		}
		d.useMu.Unlock()
	}
	return err
}
