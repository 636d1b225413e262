// Package control is Firehose's API: delivery streams are made, described, changed
// and ended while the bridge runs, and records are put to them. What it makes is
// kept with the stream of the log that buffers a delivery stream, as the stream's
// attributes, so that both are there or neither; its document is sealed, since it has
// passwords of destinations.
//
// Delivery streams that files declare are listed, described and put to as the
// others; what changes them is refused: the file would undo it.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/seal"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Codes of errors (Firehose API).
const (
	InvalidArgument        = "InvalidArgumentException"
	ResourceInUse          = "ResourceInUseException"
	ResourceNotFound       = "ResourceNotFoundException"
	LimitExceeded          = "LimitExceededException"
	ConcurrentModification = "ConcurrentModificationException"
	InvalidSource          = "InvalidSourceException"
	Unavailable            = "ServiceUnavailableException"
)

// An Error is one of the API's.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func errorf(code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// States of a delivery stream.
const (
	creating = "CREATING"
	active   = "ACTIVE"
	deleting = "DELETING"
)

// Streams are the running delivery streams; a firehose.Service has them.
type Streams interface {
	Apply(*firehose.Config) error
	Check(*firehose.Config) error // whether what it names is there
	Remove(ctx context.Context, name string) error
	Config(name string) *firehose.Config // nil: none
	Names() []string                     // sorted
}

// A Log is the bridge's.
type Log interface {
	streams.Writer
	Describe(name string) (streams.Info, error)
	SetAttributes(name string, attributes []byte) error
	Size(name string) (streams.Size, error)
	List() []streams.Info
}

// Options of a Service.
type Options struct {
	Account, Region string
	Delay           time.Duration // how long CREATING and DELETING are seen
	MaxStreams      int           // 0: 5,000 (Firehose quotas)
	MaxBacklog      int64         // bytes that may wait in one delivery stream; 0: any
	Seal            *seal.Key     // of documents, which have passwords; nil: they are kept as they are
	Log             *slog.Logger
	Now             func() time.Time // nil: time.Now
}

// A Service is the API. Several goroutines may call it.
type Service struct {
	streams Streams
	log     Log
	opts    Options
	wake    chan struct{} // something is to be ended later

	changing sync.Mutex // held while something is changed, over writes to the disk
	mu       sync.Mutex // guards states; taken after changing
	states   map[string]*state
	unread   map[string]bool // delivery streams that are kept and cannot be run; guarded by changing

	throttled sync.Map // *atomic.Int64 by delivery stream
}

// Throttled returns how many records of a delivery stream were refused since too much
// waited, since the start of the process or since it was made.
func (s *Service) Throttled(name string) int64 {
	if n, ok := s.throttled.Load(name); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

func (s *Service) throttle(name string, records int) {
	n, _ := s.throttled.LoadOrStore(name, new(atomic.Int64))
	n.(*atomic.Int64).Add(int64(records))
}

// A state is what is kept of a delivery stream that the API made. It does not
// change: a change makes another.
type state struct {
	Document   json.RawMessage   `json:"document,omitempty"` // of CreateDeliveryStream, with later updates
	Sealed     []byte            `json:"sealed,omitempty"`   // Document, as it is kept
	Version    int               `json:"version"`
	Created    int64             `json:"created"`           // epoch ms
	Updated    int64             `json:"updated,omitempty"` // epoch ms
	Deleting   int64             `json:"deleting,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Encryption string            `json:"encryption,omitempty"` // ENABLED or DISABLED, where it was said
	KeyARN     string            `json:"key_arn,omitempty"`
	KeyType    string            `json:"key_type,omitempty"`
}

// Open takes over what the API made before. What cannot be read is told to the log
// and left alone: its name is taken until it is deleted. Open starts nothing but what streams has running.
func Open(running Streams, log Log, o Options) (*Service, error) {
	if o.MaxStreams == 0 {
		o.MaxStreams = 5000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{streams: running, log: log, opts: o, wake: make(chan struct{}, 1), states: map[string]*state{},
		unread: map[string]bool{}}
	for _, info := range log.List() {
		name, ok := strings.CutPrefix(info.Name, firehose.StreamName(""))
		if !ok || len(info.Attributes) == 0 {
			continue
		}
		st := new(state)
		err := json.Unmarshal(info.Attributes, st)
		plain := err == nil && st.Sealed == nil
		if err == nil && !plain {
			st.Document, err = o.Seal.Open(st.Sealed, sealName(name))
		}
		if err == nil && st.Deleting == 0 {
			err = s.run(st)
		}
		if err != nil {
			o.Log.Error("a delivery stream of the API cannot be run", "delivery_stream", name, "err", err)
			s.unread[name] = true
			continue
		}
		s.states[name] = st
		if plain && o.Seal != nil { // of an earlier version
			if err := s.keep(name, st); err != nil {
				o.Log.Error("a delivery stream's document is kept unsealed until the next start",
					"delivery_stream", name, "err", err)
			}
		}
	}
	return s, nil
}

// Declare has a delivery stream in force that a file declares. One that the API made
// is not a file's to change.
func (s *Service) Declare(c *firehose.Config) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	_, made := s.states[c.Name]
	s.mu.Unlock()
	if made || s.unread[c.Name] {
		return fmt.Errorf("delivery stream %s was made by the API: delete it there, or give the file's another name",
			c.Name)
	}
	if err := s.streams.Check(c); err != nil {
		return fmt.Errorf("delivery stream %s: %w", c.Name, err)
	}
	return s.streams.Apply(c)
}

// run has a state's document in force.
func (s *Service) run(st *state) error {
	c, err := firehose.ParseRequest(st.Document)
	if err != nil {
		return err
	}
	c.Version = st.Version
	return s.streams.Apply(c)
}

// Run ends what is to be ended, until ctx does.
func (s *Service) Run(ctx context.Context) error {
	for {
		wait := s.end(ctx)
		var later <-chan time.Time
		if wait > 0 {
			later = time.After(wait)
		}
		select {
		case <-s.wake:
		case <-later:
		case <-ctx.Done():
			return nil
		}
	}
}

// end removes what has been DELETING for long enough, and returns how long the next
// has left; 0: there is none.
func (s *Service) end(ctx context.Context) (wait time.Duration) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	due := map[string]time.Duration{}
	for name, st := range s.states {
		if st.Deleting > 0 {
			due[name] = time.UnixMilli(st.Deleting).Add(s.opts.Delay).Sub(s.opts.Now())
		}
	}
	s.mu.Unlock()
	for name, left := range due {
		if left <= 0 {
			err := s.streams.Remove(ctx, name)
			if err == nil {
				s.mu.Lock()
				delete(s.states, name)
				s.mu.Unlock()
				s.throttled.Delete(name)
				continue
			}
			s.opts.Log.Warn("a delivery stream cannot be deleted, will retry", "delivery_stream", name, "err", err)
			left = time.Second
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return wait
}

// found is a delivery stream as a call finds it. state is nil for one of a file.
type found struct {
	config *firehose.Config
	state  *state
	status string
}

// find returns the delivery stream of a name; one that is there for the API.
func (s *Service) find(name string) (found, error) {
	s.mu.Lock()
	st := s.states[name]
	s.mu.Unlock()
	f := found{config: s.streams.Config(name), state: st, status: active}
	switch now := s.opts.Now(); {
	case st == nil && f.config == nil:
		return f, errorf(ResourceNotFound, "Firehose %s under account %s not found.", name, s.opts.Account)
	case st == nil:
	case st.Deleting > 0:
		f.status = deleting
	case now.Before(time.UnixMilli(st.Created).Add(s.opts.Delay)):
		f.status = creating
	}
	if f.config == nil { // it is gone from what runs, or cannot be read
		c, err := firehose.ParseRequest(st.Document)
		if err != nil {
			return f, err
		}
		c.Version = st.Version
		f.config = c
	}
	return f, nil
}

// change replaces the state of a delivery stream: f returns the new one. It is
// durable when change returns.
func (s *Service) change(name string, f func(found, *state) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	is, err := s.find(name)
	switch {
	case err != nil:
		return err
	case is.state == nil:
		return errorf(ResourceInUse, "Firehose %s is declared by a file: change that.", name)
	case is.status == creating:
		return errorf(ResourceInUse, "Firehose %s under account %s is not in ACTIVE state.", name, s.opts.Account)
	}
	next := *is.state
	if err := f(is, &next); err != nil {
		return err
	}
	return s.keep(name, &next)
}

// sealName says what a sealed document is of.
func sealName(name string) string { return "delivery stream " + name }

// keep makes a state durable.
func (s *Service) keep(name string, st *state) error {
	kept := *st
	if s.opts.Seal != nil {
		kept.Document, kept.Sealed = nil, s.opts.Seal.Seal(st.Document, sealName(name))
	}
	raw, err := json.Marshal(kept)
	if err == nil {
		err = s.log.SetAttributes(firehose.StreamName(name), raw)
	}
	if err != nil {
		return fmt.Errorf("delivery stream %s: keep its state: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[name] = st
	return nil
}

// ARN is that of a delivery stream.
func (s *Service) ARN(region, name string) string {
	if region == "" {
		region = s.opts.Region
	}
	return arn.Of("firehose", region, s.opts.Account, "deliverystream/"+name)
}

// gone says whether err is that the stream of the log is not there.
func gone(err error) bool { return errors.Is(err, streams.ErrNotFound) }
