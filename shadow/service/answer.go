package service

import (
	"errors"
	"time"

	"github.com/tidemill/tidemill/shadow"
)

// handle does r and publishes what follows. One of its results is nil.
func (s *Service) handle(r request) ([]byte, *shadow.Error) {
	now := s.o.Now()
	var (
		token  string
		answer []byte
		err    error
	)
	switch {
	case !shadow.ValidThing(r.topic.Thing):
		err = shadow.ErrThingName
	case r.topic.Name != "" && !shadow.ValidName(r.topic.Name):
		err = shadow.ErrShadowName
	case r.topic.Op == shadow.OpUpdate:
		answer, token, err = s.update(r, now)
	case r.topic.Op == shadow.OpGet:
		answer, token, err = s.get(r, now)
	default:
		answer, token, err = s.delete(r, now)
	}
	if err == nil {
		return answer, nil
	}
	refusal := new(shadow.Error)
	if !errors.As(err, &refusal) {
		s.o.Log.Error("shadow request failed", "thing", r.topic.Thing, "shadow", r.topic.Name, "op", string(r.topic.Op),
			"err", err)
		refusal = shadow.ErrInternal
	}
	s.reject(r, refusal, token, now)
	return nil, refusal
}

func (s *Service) refuse(r request, e *shadow.Error, token string) {
	s.reject(r, e, token, s.o.Now())
	r.done(nil, e)
}

func (s *Service) reject(r request, e *shadow.Error, token string, now time.Time) {
	if !r.quiet {
		s.publish(r.topic.As(shadow.Rejected), shadow.AppendRejected(nil, e, token, now))
	}
}

func (s *Service) publish(t shadow.Topic, payload []byte) { s.pub.Publish(t.String(), payload) }

func (s *Service) update(r request, now time.Time) (answer []byte, token string, err error) {
	u, err := shadow.ParseUpdate(r.payload, s.o.Limits)
	if err != nil {
		return nil, u.ClientToken, err
	}
	token = u.ClientToken
	before, err := s.store.Get(r.topic.Thing, r.topic.Name)
	if err != nil {
		return nil, token, err
	}
	if before.Over(s.o.Steady()) {
		before = nil
	}
	after, err := before.Update(u, now, s.o.Limits)
	if err != nil {
		return nil, token, err
	}
	if err := s.room(r.topic, before, after); err != nil {
		return nil, token, err
	}
	if err := s.store.Put(r.topic.Thing, r.topic.Name, after); err != nil {
		return nil, token, err
	}
	answer = shadow.AppendUpdateAccepted(nil, u, after, now)
	s.publish(r.topic.As(shadow.Accepted), answer)
	if d := shadow.AppendDelta(nil, after, token, now); d != nil {
		s.publish(r.topic.As(shadow.Differences), d)
	}
	s.publish(r.topic.As(shadow.Documents), shadow.AppendDocuments(nil, before, after, token, now))
	return answer, token, nil
}

// room says whether a thing may have one more shadow, or a larger one. What makes
// it smaller always may. Requests for different shadows of a thing do not wait for
// each other, so that as many as may be in flight may go beyond a limit.
func (s *Service) room(t shadow.Topic, before, after *shadow.Document) error {
	if s.o.MaxNamed == 0 && s.o.MaxBytes == 0 {
		return nil
	}
	size := len(after.AppendRecord(nil))
	for again := false; ; again = true {
		named, bytes, err := s.store.Usage(t.Thing, t.Name)
		if err != nil {
			return err
		}
		var full error
		switch {
		case s.o.MaxNamed > 0 && t.Name != "" && before == nil && named >= s.o.MaxNamed:
			full = shadow.ErrTooManyNamed(s.o.MaxNamed)
		case s.o.MaxBytes > 0 && bytes+size > s.o.MaxBytes && (before == nil || size > len(before.AppendRecord(nil))):
			full = shadow.ErrThingTooLarge(s.o.MaxBytes)
		}
		if full == nil || again {
			return full
		}
		// Perhaps what is in the way is over.
		if err := s.store.Forget(t.Thing, s.o.Steady().Add(-shadow.Remembered)); err != nil {
			return err
		}
	}
}

// load returns the document r is about, which lives, and the request's token.
func (s *Service) load(r request) (d *shadow.Document, token string, err error) {
	if token, err = shadow.ParseToken(r.payload); err != nil {
		return nil, "", err
	}
	if d, err = s.store.Get(r.topic.Thing, r.topic.Name); err != nil {
		return nil, token, err
	}
	if !d.Alive() {
		return nil, token, shadow.NotFound(r.topic.Thing, r.topic.Name)
	}
	return d, token, nil
}

func (s *Service) get(r request, now time.Time) (answer []byte, token string, err error) {
	d, token, err := s.load(r)
	if err != nil {
		return nil, token, err
	}
	answer = shadow.AppendGetAccepted(nil, d, token, now)
	s.publish(r.topic.As(shadow.Accepted), answer)
	return answer, token, nil
}

func (s *Service) delete(r request, now time.Time) (answer []byte, token string, err error) {
	d, token, err := s.load(r)
	if err != nil {
		return nil, token, err
	}
	if err := s.store.Put(r.topic.Thing, r.topic.Name, d.Delete(s.o.Steady())); err != nil {
		return nil, token, err
	}
	answer = shadow.AppendDeleteAccepted(nil, d.Version, token, now)
	s.publish(r.topic.As(shadow.Accepted), answer)
	return answer, token, nil
}
