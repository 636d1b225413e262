package server

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A keySession has the rights of an access key over WebSocket: all that the
// gateway lets anybody have, as the key has for the APIs. It ends with the key.
type keySession struct {
	a  *authorizer
	id string // of the key
}

func (a *authorizer) connectKey(k keyHolder) (gateway.Session, error) {
	s := &keySession{a, k.id}
	if !s.mayStay() {
		return nil, fmt.Errorf("%w: access key %s is not known any more", gateway.ErrBadCredentials, k.id)
	}
	return s, nil
}

func (s *keySession) mayStay() bool {
	if s.a.cfg.HTTPS.Permissive {
		return true
	}
	_, _, ok := s.a.pki.Secret(s.id)
	return ok
}

// Principal is the key's id.
func (s *keySession) Principal() string { return s.id }

// Thing is empty: a key is no thing's.
func (s *keySession) Thing() string { return "" }

func (s *keySession) MayPublish(string, bool) bool { return true }

func (s *keySession) MaySubscribe(string) bool { return true }

func (s *keySession) MayReceive(string) bool { return true }
