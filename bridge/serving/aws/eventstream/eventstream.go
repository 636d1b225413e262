// Package eventstream is the framing of AWS's event streams,
// application/vnd.amazon.eventstream: messages of headers and a payload, with
// checksums. All numbers are big-endian, checksums CRC-32 (IEEE).
//
//	4  length of all
//	4  length of the headers
//	4  checksum of the 8 bytes before
//	…  headers: length of the name (1), name, type (1), length of the value (2), value
//	…  payload
//	4  checksum of all before
package eventstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A Header has a value of type 7, string: the only one that services send for
// headers that begin with a colon.
type Header struct{ Name, Value string }

// A Message is one frame.
type Message struct {
	Headers []Header
	Payload []byte
}

const (
	prelude    = 12
	textType   = 7
	maxHeaders = 128 << 10 // bytes (Smithy, event stream specification)
	maxPayload = 24 << 20  // bytes; the specification's, from 2024 on
)

// ErrMessage is of bytes that are no message.
var ErrMessage = errors.New("eventstream: not a message")

// Encode returns m as bytes. A name has 1 to 255 bytes, a value at most 65,535.
func Encode(m Message) []byte {
	headers := 0
	for _, h := range m.Headers {
		headers += 4 + len(h.Name) + len(h.Value)
	}
	size := prelude + headers + len(m.Payload) + 4
	b := binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(size))
	b = binary.BigEndian.AppendUint32(b, uint32(headers))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	for _, h := range m.Headers {
		b = append(append(append(b, byte(len(h.Name))), h.Name...), textType)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(h.Value))), h.Value...)
	}
	b = append(b, m.Payload...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// Decode reads the message at the begin of b, and returns what follows it. The
// payload shares memory with b. Too few bytes are ErrMessage too.
func Decode(b []byte) (m Message, rest []byte, err error) {
	if len(b) < prelude+4 {
		return m, nil, fmt.Errorf("%w: %d bytes", ErrMessage, len(b))
	}
	size, headers := uint64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
	if crc32.ChecksumIEEE(b[:8]) != binary.BigEndian.Uint32(b[8:]) {
		return m, nil, fmt.Errorf("%w: the first checksum is wrong", ErrMessage)
	}
	if size < prelude+4+headers || headers > maxHeaders || size-headers-prelude-4 > maxPayload || size > uint64(len(b)) {
		return m, nil, fmt.Errorf("%w: %d bytes, %d of headers, of %d", ErrMessage, size, headers, len(b))
	}
	end := size - 4
	if crc32.ChecksumIEEE(b[:end]) != binary.BigEndian.Uint32(b[end:]) {
		return m, nil, fmt.Errorf("%w: the last checksum is wrong", ErrMessage)
	}
	m.Payload = b[prelude+headers : end : end]
	for h := b[prelude : prelude+headers]; len(h) > 0; {
		n := int(h[0])
		if n == 0 || len(h) < n+4 || h[n+1] != textType {
			return Message{}, nil, fmt.Errorf("%w: header", ErrMessage)
		}
		v := int(binary.BigEndian.Uint16(h[n+2:]))
		if len(h) < n+4+v {
			return Message{}, nil, fmt.Errorf("%w: header", ErrMessage)
		}
		m.Headers = append(m.Headers, Header{string(h[1 : n+1]), string(h[n+4 : n+4+v])})
		h = h[n+4+v:]
	}
	return m, b[size:], nil
}

// Get returns the value of the first header of that name, "" for none.
func (m Message) Get(name string) string {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}
