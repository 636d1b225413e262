package uplink

import (
	"context"
	"fmt"
	"time"
)

// send takes batches off the queue until drain is done or, after ctx's end,
// until the queue is empty. It returns the error of the queue or the link.
func (s *session) send(ctx, drain context.Context, window chan<- flight) error {
	u := s.u
	put := func(seq uint64, topic string, last bool, payload []byte) error {
		select {
		case s.slots <- struct{}{}: // given back by settle
		case <-s.link.down:
			return s.link.why()
		case <-drain.Done():
			return drain.Err()
		}
		f := flight{seq: seq, last: last, topic: topic}
		if topic != "" {
			var err error
			if f.tok, err = s.publish(drain, topic, false, payload); err != nil {
				return err
			}
		}
		window <- f // has room for as many as there are slots
		return nil
	}
	for after := uint64(0); ; {
		seq, payload, err := s.next(ctx, drain, after)
		if err != nil {
			return err
		}
		after = seq
		u.update(func(st *Status) { st.Sent++ })
		if u.o.Expand == nil {
			err = s.whole(seq, payload, put)
		} else {
			err = s.expand(seq, payload, put)
		}
		if err != nil {
			return err
		}
	}
}

// whole publishes a batch, in the form that the bridge takes.
func (s *session) whole(seq uint64, batch []byte, put func(uint64, string, bool, []byte) error) error {
	if plain := s.u.o.Plain; plain != nil && !s.timed {
		var err error
		if batch, err = plain(batch); err != nil {
			s.unreadable(seq, err)
			return put(seq, "", true, nil)
		}
	}
	return put(seq, s.u.o.Topic, true, batch)
}

func (s *session) unreadable(seq uint64, err error) {
	s.u.log.Error("a batch cannot be read and is left out", "seq", seq, "err", err)
	s.u.update(func(st *Status) { st.Damaged++ })
}

// expand publishes a batch's messages one by one. Each is held back until the
// next is known, since the last one's PUBACK stands for the batch.
func (s *session) expand(seq uint64, batch []byte, put func(uint64, string, bool, []byte) error) error {
	var (
		failed  error
		topic   string
		payload []byte
	)
	err := s.u.o.Expand(batch, func(t string, p []byte) error {
		if topic != "" {
			if failed = put(seq, topic, false, payload); failed != nil {
				return failed
			}
		}
		topic, payload = t, append([]byte(nil), p...)
		return nil
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		s.unreadable(seq, err)
	}
	return put(seq, topic, true, payload)
}

// next waits for a batch as long as ctx lasts, and then takes what is there.
func (s *session) next(ctx, drain context.Context, after uint64) (uint64, []byte, error) {
	if ctx.Err() == nil {
		both, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(drain, cancel)
		seq, payload, err := s.u.queue.Next(both, after)
		stop()
		cancel()
		if err == nil || ctx.Err() == nil {
			return seq, payload, err
		}
	}
	short, cancel := context.WithTimeout(drain, endOfQueue)
	defer cancel()
	return s.u.queue.Next(short, after)
}

// settle acknowledges batches to the queue as their PUBACKs come in, in order,
// until the link is lost, or until the sender has ended and all is answered.
func (s *session) settle(drain context.Context, window <-chan flight) error {
	u := s.u
	timer := time.NewTimer(u.o.AckTimeout)
	defer timer.Stop()
	for {
		var f flight
		var ok bool
		select {
		case f, ok = <-window:
		case <-s.link.down:
			// What the broker acknowledged before the end still counts.
			select {
			case f, ok = <-window:
			default:
				return s.cut()
			}
		}
		if !ok {
			if s.link.why() != nil {
				return s.cut()
			}
			return errDrained
		}
		if f.tok != nil {
			timer.Reset(u.o.AckTimeout)
			select {
			case <-f.tok.Done():
			case <-s.link.down:
			case <-drain.Done():
			case <-timer.C:
				return s.stalled("PUBLISH to " + f.topic)
			}
			// Only a token that is done and has no error stands for a PUBACK.
			select {
			case <-f.tok.Done():
				if err := f.tok.Error(); err == nil {
					break
				} else if s.link.why() == nil {
					return fmt.Errorf("publish to %s: %w", f.topic, err)
				}
				return s.ended("PUBLISH to " + f.topic)
			default:
				if s.link.why() == nil {
					return errDrained // the drain's time is over
				}
				return s.ended("PUBLISH to " + f.topic)
			}
		}
		<-s.slots
		u.update(func(st *Status) {
			st.Inflight = len(s.slots)
			if f.last {
				st.Acked, st.LastAck = st.Acked+1, time.Now()
			}
		})
		if f.last {
			u.queue.Ack(f.seq)
		}
	}
}

// cut says what ended the link when nothing handed over is waited for. A taken
// slot tells that a publish was on its way to be.
func (s *session) cut() error {
	if len(s.slots) > 0 && s.u.o.Expand == nil {
		return s.ended("PUBLISH to " + s.u.o.Topic)
	}
	return s.why()
}
