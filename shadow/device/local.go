package device

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/shadow"
)

// A Device is the device half of one shadow. All methods may be called from
// several goroutines.
type Device struct {
	store  Store
	thing  string
	name   string
	o      Options
	limits shadow.Limits
	routes []route

	mu sync.Mutex // guards state; held while the store writes
	s  state
	// seen is a copy of s for readers who must not wait for the disk.
	seen atomic.Pointer[state]

	box  inbox
	wake chan struct{} // one token: there is something to do
}

// New reads the shadow's state from store. name is "" for the classic shadow.
// Records that cannot be read are an error. The first New for a shadow
// writes, see state.id.
func New(store Store, thing, name string, o Options) (*Device, error) {
	if !shadow.ValidThing(thing) {
		return nil, fmt.Errorf("shadow device: %w: %q", shadow.ErrThingName, thing)
	}
	if name != "" && !shadow.ValidName(name) {
		return nil, fmt.Errorf("shadow device: %w: %q", shadow.ErrShadowName, name)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.ErrorKey == "" {
		o.ErrorKey = "errors"
	}
	if o.Jitter == nil {
		o.Jitter = mathrand.Float64
	}
	if o.Synced == nil {
		o.Synced = func() {}
	}
	d := &Device{
		store: store, thing: thing, name: name, o: o,
		limits: shadow.Limits{MaxSize: o.MaxSize, MaxDepth: o.MaxDepth},
		wake:   make(chan struct{}, 1),
	}
	if d.limits.MaxSize == 0 {
		d.limits.MaxSize = shadow.DefaultMaxSize
	}
	d.o.Log = o.Log.With("shadow", name)
	records, err := store.Load(thing, name)
	if err != nil {
		return nil, fmt.Errorf("shadow device %s/%s: %w", thing, name, err)
	}
	if err := d.s.load(records); err != nil {
		return nil, fmt.Errorf("shadow device %s/%s: %w", thing, name, err)
	}
	if d.s.id == "" {
		first := d.s
		first.id = random()
		if err := d.save(first); err != nil {
			return nil, fmt.Errorf("shadow device %s/%s: %w", thing, name, err)
		}
	}
	d.publishState()
	return d, nil
}

// random returns 8 random hex digits.
func random() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// publishState shows s to readers; d.mu is held or nobody else has d yet.
func (d *Device) publishState() {
	c := d.s
	d.seen.Store(&c)
}

// winners are the ends that win where both changed a place.
func (d *Device) winners() winners {
	w := winners{desired: shadow.Cloud, reported: shadow.Local}
	if d.o.LocalDesired {
		w.desired = shadow.Local
	}
	if d.o.CloudReported {
		w.reported = shadow.Cloud
	}
	return w
}

// save makes next the state, on the disk first. d.mu is held.
func (d *Device) save(next state) error {
	before := d.s.records()
	set := next.records()
	for k, v := range set {
		if string(v) == string(before[k]) {
			delete(set, k)
		}
	}
	if len(set) > 0 {
		if err := d.store.Save(d.thing, d.name, set); err != nil {
			return err
		}
	}
	d.s = next
	d.publishState()
	return nil
}

// change makes what f does to the state durable, in one step.
func (d *Device) change(f func(*state)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.s
	f(&next)
	return d.save(next)
}

func (d *Device) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Report merges patch (anything that marshals to a JSON object; null members
// remove) into reported. It is durable on the device when Report returns and
// is sent when connected. Values equal to those reported cost nothing. A
// patch that breaks a limit changes nothing; the error is then a
// *shadow.Error. After a report that differs from desired, the handler of
// that place is called.
func (d *Device) Report(patch any) error {
	return d.edit(patch, func(s *state) *map[string]any { return &s.reported })
}

// Desire merges patch into desired: an operator's edit on the device itself,
// applied at once and sent when connected. The cloud's value wins where it
// changed too. Errors are those of Report.
func (d *Device) Desire(patch any) error {
	return d.edit(patch, func(s *state) *map[string]any { return &s.desired })
}

func (d *Device) edit(patch any, section func(*state) *map[string]any) error {
	v, err := shadow.From(patch)
	if err != nil {
		return fmt.Errorf("shadow device: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return shadow.ErrStateType
	}
	u := shadow.Update{Reported: shadow.Section{Set: true, Patch: m}}
	if err := u.Check(d.limits); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.s
	at := section(&next)
	merged := shadow.Merge(*at, m)
	if shadow.Equal(merged, *at) {
		return nil
	}
	*at = merged
	if shadow.Size(next.desired, next.reported) > d.limits.MaxSize {
		return shadow.ErrTooLarge
	}
	next.version++
	next.deleted = false
	if err := d.save(next); err != nil {
		return fmt.Errorf("shadow device: %w", err)
	}
	d.poke()
	return nil
}

// Versions returns the count of changes made here and the version of the
// cloud's document last seen.
func (d *Device) Versions() (local, cloud uint64) {
	s := d.seen.Load()
	return s.version, s.base.version
}

// Desired returns the section as last known; not to be changed.
func (d *Device) Desired() map[string]any { return d.seen.Load().desired }

// Reported returns the section as kept here; not to be changed.
func (d *Device) Reported() map[string]any { return d.seen.Load().reported }

// A Status is for people.
type Status struct {
	LocalVersion, CloudVersion uint64
	Unsent                     bool           // the cloud does not have all yet
	Delta                      map[string]any // desired and not so
	Parked                     string         // why the cloud refused for good what is unsent, "" if it did not
	Deleted                    bool           // the cloud deleted the shadow; the next Report makes it anew
	LastSync                   time.Time      // by this device's clock
}

// Status returns how things stand.
func (d *Device) Status() Status {
	s := d.seen.Load()
	u, unsent := s.pending()
	st := Status{
		LocalVersion: s.version, CloudVersion: s.base.version, Unsent: unsent,
		Delta: shadow.Delta(s.desired, s.reported), Deleted: s.deleted,
	}
	if unsent && string(u.Append(nil)) == s.parked {
		st.Parked = s.parkedErr
	}
	if s.lastSync != 0 {
		st.LastSync = time.Unix(s.lastSync, 0)
	}
	return st
}

// Run applies, sends and answers until ctx is done, then returns nil. What
// was not sent is kept for the next start. At first it calls the handlers
// for every desired value known from before, connected or not.
func (d *Device) Run(ctx context.Context) error {
	l := &link{d: d, boot: random(), tried: make(map[string]attempt)}
	l.apply(ctx, true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(l.step(ctx))
		select {
		case <-d.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}
