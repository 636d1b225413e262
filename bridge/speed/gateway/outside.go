package gateway

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Check says whether a message of the data plane may be published at all, whoever
// it is from: it has the server's limits and no topic that is kept from those who
// come by HTTPS. Properties must be such as are forwarded.
func (s *Subscribers) Check(m *message.Message) error {
	var p packet.Properties
	if err := s.conf.validName(m.Topic); err != nil {
		return err
	}
	switch {
	case len(m.Payload) > s.conf.MaxPayload:
		return fmt.Errorf("%w: a payload of %d bytes, at most %d", packet.ErrTooLarge, len(m.Payload),
			s.conf.MaxPayload)
	case int(m.QoS) > s.conf.MaxQoS:
		return fmt.Errorf("%w: quality of service %d, at most %d", packet.ErrMalformed, m.QoS, s.conf.MaxQoS)
	}
	if err := topic.CheckPublish(m.Topic, topic.ByHTTPS, m.Retain); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAuthorized, err)
	}
	if !s.roomToRetain(m) {
		return errRetained(m.Owner)
	}
	return p.Parse(packet.PUBLISH, m.Properties)
}

// An Owned session says who owns what outlives the connection, where that is not
// the principal itself: a client with a temporary key is who it was with the one
// before.
type owned interface {
	Session
	Owner() string
}

// A Lasting session has something to do while its client is connected, such as
// to end that in time. Begin is called once, after the connected event; end closes
// the connection with one of the Reason constants and does not wait. The
// function that Begin returns is called when the connection has ended; it may
// wait for what Begin started.
type lasting interface {
	Session
	Begin(end func(reason string)) (ended func())
}
