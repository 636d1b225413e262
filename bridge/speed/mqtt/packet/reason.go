package packet

import (
	"fmt"
	"slices"
)

// The reason codes of version 5's packets that have one and may come from a
// client (3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1 and 3.14.2.1; those of 3.14.2.1 that
// only servers send are among them, since Decode does not know who sent it).
var (
	received = []byte{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
	released = []byte{0x00, 0x92}
	goodbyes = []byte{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95,
		0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2}
	challenges = []byte{0x00, 0x18, 0x19}
)

// knownReason refuses a reason code that packets of type t do not have: a sender
// MUST use one of theirs [MQTT-3.4.2-1, -3.5.2-1, -3.6.2-1, -3.7.2-1, -3.14.2-1,
// -3.15.2-1].
func knownReason(t Type, code byte) error {
	if code == 0 {
		return nil
	}
	var codes []byte
	switch t {
	case PUBACK, PUBREC:
		codes = received
	case PUBREL, PUBCOMP:
		codes = released
	case DISCONNECT:
		codes = goodbyes
	case AUTH:
		codes = challenges
	}
	if !slices.Contains(codes, code) {
		return offence(t, fmt.Sprintf("reason code 0x%02x", code))
	}
	return nil
}
