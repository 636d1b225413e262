package kinesis

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// States of streams and consumers.
const (
	creating = "CREATING"
	active   = "ACTIVE"
	updating = "UPDATING"
	deleting = "DELETING"
)

// A stream is a data stream as a call found it. It does not change: a control
// operation makes the next call find another.
type stream struct {
	streams.Info
	*attributes
	ctl    *control
	status string
}

// takes says whether the stream has shards to write to and read from.
func (st *stream) takes() bool { return st.status == active || st.status == updating }

// A control is what is remembered of one incarnation of a stream while the
// program runs.
type control struct {
	name string

	// mu is held by a control operation from its first check until it is
	// durable, so they come one after the other. Service.quota is locked before
	// it, or not at all.
	mu sync.Mutex

	doc   atomic.Pointer[attributes]
	until atomic.Int64 // unix ns: as long it is seen as UPDATING, or DELETING

	leavingMu sync.Mutex
	leaving   []leaving
}

// A leaving consumer is deregistered, but still seen as DELETING.
type leaving struct {
	consumer
	until time.Time
}

// A registry is all that the service knows of streams.
type registry struct {
	controls sync.Map      // of *control by the stream's id
	wake     chan struct{} // a stream is to be deleted later
	quota    sync.Mutex    // held while shards are counted and made
	calls    calls
	heat     heat
}

// Open takes over the streams of store that the API knows, and ends what a
// crash interrupted.
func Open(store streams.Log, o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxShards == 0 {
		o.MaxShards = streams.MaxShards
	}
	s := &Service{store: store, opts: o, log: o.Log, now: o.Now}
	s.wake = make(chan struct{}, 1)
	for _, info := range store.List() {
		if !nameLike.MatchString(info.Name) {
			continue
		}
		at, err := parseAttributes(info.Attributes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", info.Name, err)
		}
		if !at.Deleting {
			continue
		}
		if err := store.Delete(info.Name); err != nil {
			return nil, fmt.Errorf("kinesis: finish the deletion of %s: %w", info.Name, err)
		}
	}
	return s, nil
}

// find returns the stream of a reference, or ResourceNotFound. A stream in any
// state is found, so those who need its shards ask takes.
func (a API) find(ref StreamRef) (*stream, error) {
	name, err := a.name(ref)
	if err != nil {
		return nil, err
	}
	return a.named(name)
}

func (a API) named(name string) (*stream, error) {
	if nameLike.MatchString(name) {
		st, err := a.s.look(name)
		if !errors.Is(err, streams.ErrNotFound) {
			return st, err
		}
	}
	return nil, errorf(ResourceNotFound, "Stream %s under account %s not found.", name, a.s.opts.Account)
}

// look returns a stream, or streams.ErrNotFound.
func (s *Service) look(name string) (*stream, error) {
	info, err := s.store.Describe(name)
	if err != nil {
		return nil, err
	}
	ctl, err := s.control(info)
	if err != nil {
		return nil, err
	}
	st := &stream{Info: info, attributes: ctl.doc.Load(), ctl: ctl}
	now := s.now()
	st.status = s.statusOf(st, now)
	if st.status == deleting && now.UnixNano() >= ctl.until.Load() {
		if err := s.remove(st); err != nil {
			return nil, err
		}
		return nil, streams.ErrNotFound
	}
	return st, nil
}

func (s *Service) statusOf(st *stream, now time.Time) string {
	switch {
	case st.Deleting:
		return deleting
	case s.fresh(st, now):
		return creating
	case now.UnixNano() < st.ctl.until.Load():
		return updating
	}
	return active
}

// fresh says whether a stream has just been made.
func (s *Service) fresh(st *stream, now time.Time) bool {
	age := now.Sub(st.Created)
	return age >= 0 && age < s.opts.Delay
}

// control returns that of a stream, making it at first use.
func (s *Service) control(info streams.Info) (*control, error) {
	if v, ok := s.controls.Load(info.ID); ok {
		return v.(*control), nil
	}
	at, err := parseAttributes(info.Attributes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.Name, err)
	}
	ctl := &control{name: info.Name}
	ctl.doc.Store(at)
	v, _ := s.controls.LoadOrStore(info.ID, ctl)
	return v.(*control), nil
}

// change calls f with a stream that no other control operation works on. A
// stream in the state DELETING is found as any other.
func (a API) change(ref StreamRef, f func(st *stream) error) error {
	for {
		st, err := a.find(ref)
		if err != nil {
			return err
		}
		again, err := a.locked(st, f)
		if !again {
			return err
		}
	}
}

// alter is change of streams that are not about to go.
func (a API) alter(ref StreamRef, f func(st *stream) error) error {
	return a.change(ref, func(st *stream) error {
		if st.status == deleting {
			return a.requireActive(st)
		}
		return f(st)
	})
}

// edit changes the attributes of a stream, durably.
func (a API) edit(ref StreamRef, f func(st *stream, at *attributes) error) error {
	return a.alter(ref, func(st *stream) error {
		at := st.copy()
		if err := f(st, at); err != nil {
			return err
		}
		return a.s.save(st, at)
	})
}

// locked calls f unless the stream was deleted meanwhile, perhaps made again.
func (a API) locked(old *stream, f func(st *stream) error) (again bool, err error) {
	old.ctl.mu.Lock()
	defer old.ctl.mu.Unlock()
	info, err := a.s.store.Describe(old.Name)
	if err != nil || info.ID != old.ID {
		return true, nil
	}
	st := &stream{Info: info, attributes: old.ctl.doc.Load(), ctl: old.ctl}
	st.status = a.s.statusOf(st, a.s.now())
	return false, f(st)
}

// save makes the attributes those of the stream, durably. The caller is in
// change.
func (s *Service) save(st *stream, at *attributes) error {
	if err := s.store.SetAttributes(st.Name, at.encode()); err != nil {
		return err
	}
	st.ctl.doc.Store(at)
	return nil
}

// update shows a stream as UPDATING for a while.
func (s *Service) update(st *stream) {
	st.ctl.until.Store(s.now().Add(s.opts.Delay).UnixNano())
}

// remove takes a stream that was seen as DELETING for long enough out of the
// log.
func (s *Service) remove(st *stream) error {
	st.ctl.mu.Lock()
	defer st.ctl.mu.Unlock()
	if info, err := s.store.Describe(st.Name); err != nil || info.ID != st.ID {
		return nil // another was faster
	}
	return s.drop(st)
}

// drop deletes a stream now. The caller is in change.
func (s *Service) drop(st *stream) error {
	if err := s.store.Delete(st.Name); err != nil && !errors.Is(err, streams.ErrNotFound) {
		return err
	}
	s.controls.Delete(st.ID)
	return nil
}

// requireActive is for operations that wait for the one before.
func (a API) requireActive(st *stream) error {
	if st.status == active {
		return nil
	}
	return errorf(ResourceInUse, "Stream %s under account %s not ACTIVE, instead in state %s", st.Name,
		a.s.opts.Account, st.status)
}
