package uplink

import (
	"context"
	"errors"
	"fmt"
)

// closedAfter is how many connections in a row may end in place of an answer to
// meetBridge before the peer counts as no bridge. AWS IoT Core closes for a topic
// that its policy does not allow; a bridge that is stopped closes too, but once.
const closedAfter = 3

// refusedFilter is the code of a refused filter in SUBACK (MQTT 3.1.1, 3.9.3).
const refusedFilter = 0x80

// meetBridge subscribes to Options.NoticeTopic and asks whether the peer takes
// batches. Any broker answers a batch with PUBACK, and the queue deletes it; so a
// batch goes only to a peer that is known to understand it.
//
// A bridge grants NoticeTopic, whatever the policy, and refuses Options.Topic,
// which it only takes. A broker that knows nothing of the two treats them alike:
// Mosquitto grants both. The answer comes with the SUBACK that the notices need
// anyway, and bridges of before the question give the same one.
func (s *session) meetBridge(ctx context.Context) error {
	u := s.u
	if u.o.NoticeTopic == "" {
		return nil
	}
	u.unanswered++
	want := map[string]byte{u.o.NoticeTopic: 1, u.o.Topic: 0}
	if u.o.TimeAnswerTopic != "" {
		want[u.o.TimeAnswerTopic] = 0 // one that is late is of no use
	}
	codes, err := s.subscribe(ctx, want, "SUBSCRIBE to "+u.o.NoticeTopic)
	e, ok := errors.AsType[*linkError](err)
	switch {
	case ok && e.Kind == KindClosed && u.unanswered >= closedAfter:
		return s.stranger("closes the connection when it is asked whether it takes batches", e)
	case ok && e.Kind == KindProtocol:
		return s.stranger("does not answer as a tidemill-bridge", e)
	case err != nil:
		return err
	}
	u.unanswered = 0
	tells, knows := codes[u.o.NoticeTopic]
	takes, asked := codes[u.o.Topic]
	code, ok := codes[u.o.TimeAnswerTopic]
	s.timed = ok && code != refusedFilter
	if knows && asked && tells != refusedFilter && takes == refusedFilter {
		return nil
	}
	s.client.Disconnect(uint(handOver.Milliseconds())) // so that the will is not published
	s.gone()                                           // the client does not call back after its own disconnect
	return s.stranger("does not answer as a tidemill-bridge", nil)
}

// stranger is the failure of a peer that batches would be lost to.
func (s *session) stranger(does string, cause error) error {
	return &linkError{Kind: KindNotBridge, Err: cause,
		Text: fmt.Sprintf("%s %s, so no batch is sent and the spool keeps all: "+
			`for a broker of another kind set uplink.format = "json"`, s.u.o.Endpoint, does)}
}
