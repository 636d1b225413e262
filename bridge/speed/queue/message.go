package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/message/field"
)

// A Message is one of a queue.
type Message struct {
	ID         string // a UUID
	Body       string // of characters that XML 1.0 has
	Attributes map[string]Attribute
	Sender     string // who sent it, such as an access key's id
	Group      string // MessageGroupId; "": none
	DedupID    string // MessageDeduplicationId of FIFO queues
	Delay      time.Duration

	Sent     time.Time // set by the log
	Sequence uint64    // of a FIFO queue: grows with each message
}

// An Attribute is what a sender says beside the body.
type Attribute struct {
	Type  string // String, Number or Binary, perhaps with .LABEL behind it
	Value []byte
}

const (
	messageVersion = 1
	maxAttributes  = 10 // of a message (SQS quotas)
)

var errMessage = errors.New("queue: corrupt message")

// check applies SQS's rules, and those of the queue.
func (m *Message) check(c *Config, fifo bool) error {
	size := len(m.Body)
	for name, a := range m.Attributes {
		size += len(name) + len(a.Type) + len(a.Value)
	}
	switch {
	case m.Body == "":
		return fmt.Errorf("%w: the message is empty", ErrInvalid)
	case size > c.MaxMessage:
		return fmt.Errorf("%w: %d bytes with attributes, want at most %d", ErrInvalid, size, c.MaxMessage)
	case len(m.Attributes) > maxAttributes:
		return fmt.Errorf("%w: %d attributes, want at most %d", ErrInvalid, len(m.Attributes), maxAttributes)
	case m.Delay < 0 || m.Delay > 15*time.Minute:
		return fmt.Errorf("%w: DelaySeconds: %v, want 0 to 15 minutes", ErrInvalid, m.Delay)
	case fifo && m.Group == "":
		return fmt.Errorf("%w: a FIFO queue takes no message without MessageGroupId", ErrInvalid)
	case fifo && m.DedupID == "":
		return fmt.Errorf("%w: want MessageDeduplicationId, or ContentBasedDeduplication of the queue", ErrInvalid)
	case len(m.Group) > 128 || len(m.DedupID) > 128:
		return fmt.Errorf("%w: MessageGroupId and MessageDeduplicationId have at most 128 characters", ErrInvalid)
	}
	if i := badRune(m.Body); i >= 0 {
		return fmt.Errorf("%w: the character at byte %d is none that a message may have", ErrInvalid, i)
	}
	return nil
}

// badRune returns where a text has a character that SQS does not take, -1 for none
// (SQS API, SendMessage: those of XML 1.0).
func badRune(text string) int {
	for i, r := range text {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(text[i:]); n == 1 {
				return i
			}
		}
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return i
		}
	}
	return -1
}

// encode writes m as FORMAT.md says.
func (m *Message) encode() []byte {
	dst := []byte{messageVersion}
	dst = binary.AppendUvarint(dst, uint64(m.Delay/time.Second))
	for _, s := range []string{m.ID, m.Sender, m.Group, m.DedupID} {
		dst = field.AppendText(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Attributes)))
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		a := m.Attributes[name]
		dst = field.AppendText(field.AppendText(field.AppendText(dst, name), a.Type), a.Value)
	}
	return append(dst, m.Body...)
}

// decode reads what encode wrote.
func decode(src []byte) (*Message, error) {
	if len(src) == 0 || src[0] != messageVersion {
		return nil, errMessage
	}
	r := field.NewReader(src[1:])
	m := &Message{Delay: time.Duration(min(r.Uvarint(), 15*60)) * time.Second}
	for _, s := range []*string{&m.ID, &m.Sender, &m.Group, &m.DedupID} {
		*s = string(r.Text())
	}
	n := r.Uvarint()
	if n > maxAttributes {
		return nil, errMessage
	}
	for range n {
		name := string(r.Text())
		a := Attribute{Type: string(r.Text()), Value: slices.Clone(r.Text())}
		if m.Attributes == nil {
			m.Attributes = map[string]Attribute{}
		}
		m.Attributes[name] = a
	}
	if r.Bad() {
		return nil, errMessage
	}
	m.Body = string(r.Rest())
	return m, nil
}
