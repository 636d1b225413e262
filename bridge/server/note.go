package server

import (
	"context"
	"errors"
	"time"

	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// How often is noted how far log and clock are, outside of the log. What is
// missing at the log's end after a kill is found but for the last noteEvery. A
// note is a write of 512 bytes; each commit waits for nothing.
const (
	noteEvery = time.Second      // while the log grows
	syncEvery = 30 * time.Second // and synced, whether or not it does
)

// notes writes notes until ctx ends; Close writes the last.
func (s *Server) notes(ctx context.Context) error {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	synced, failed := time.Now(), false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		at, sync := s.store.Position(), time.Since(synced) >= syncEvery
		if last, _ := s.dir.Note(); last.Log == at && !sync {
			continue
		}
		err := s.dir.WriteNote(datadir.Note{Clock: s.clock.State(), Log: at}, sync)
		if err != nil && !failed {
			s.log.Warn("how far the log is cannot be noted, will retry", "err", err)
		}
		if failed = err != nil; sync && err == nil {
			synced = time.Now()
		}
	}
}

// note writes the note of a clean stop.
func (s *Server) note() error {
	return s.dir.WriteNote(datadir.Note{Clock: s.clock.State(), Log: s.store.Position()}, true)
}

// resumeClock has the clock go on from the last run, of which the newest record
// tells if nothing else does.
func (a *assembly) resumeClock() error {
	if n, ok := a.dir.Note(); ok {
		a.clock.Resume(n.Clock)
		return nil
	}
	newest, err := a.store.Newest(ingest.Stream)
	if errors.Is(err, streams.ErrNotFound) || err == nil && newest.IsZero() {
		return nil
	}
	if err != nil {
		return err
	}
	a.clock.Resume(clock.State{Wall: newest, Expiry: newest})
	return nil
}

// noteAtStop has Close write the note of a clean stop, once the clock goes on from
// the last.
func (a *assembly) noteAtStop() error {
	a.closes(a.note)
	return nil
}

// acceptAfter is clock.accept_after in the clock's terms.
func acceptAfter(c config.Clock) time.Duration {
	if c.AcceptAfter == 0 {
		return -1
	}
	return time.Duration(c.AcceptAfter)
}

// A notedClock is the clock whose acceptance is durable when it returns.
type notedClock struct {
	*clock.Clock
	note func() error
}

func (c notedClock) Accept() error {
	c.Clock.Accept()
	return c.note()
}
