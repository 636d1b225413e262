package sessions

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tidemill/tidemill/shadow/format"
)

// A Loader takes what Load finds. Sessions come before what belongs to them.
type Loader interface {
	// LoadRetained returns false if the message is not kept.
	LoadRetained(r *Retained) bool
	LoadSession(id string, r *Record)
	// LoadAccepted and LoadQueued return false if there is no such life.
	LoadAccepted(l Life, packetID uint16) bool
	LoadQueued(l Life, seq uint64, q *Queued) bool
	// Corrupt is told of what cannot be read. It is left out, and stays.
	Corrupt(key []byte, err error)
}

// Load reads what is stored. It comes before Run and before the log's first
// commit; what is not kept is removed by Run. Records of a newer version are
// format.ErrNewer.
func (st *Store) Load(l Loader) error {
	if err := st.checkFormat(); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	for _, part := range []struct {
		prefix string
		load   func(key, value []byte) (kept bool, err error)
	}{
		{retainedPrefix, func(key, value []byte) (bool, error) {
			r, err := parseRetained(string(key[len(retainedPrefix):]), value)
			if err != nil {
				return false, err
			}
			if !l.LoadRetained(r) {
				st.Retained(st, r.Topic, len(value)) // somebody may publish it again meanwhile
			}
			return true, nil
		}},
		{sessionPrefix, func(key, value []byte) (bool, error) {
			r, err := parseRecord(value)
			if err == nil {
				l.LoadSession(string(key[len(sessionPrefix):]), r)
			}
			return true, err
		}},
		{acceptedPrefix, func(key, _ []byte) (bool, error) {
			life, rest, err := parseOwned(key, acceptedPrefix, 2)
			return err == nil && l.LoadAccepted(life, uint16(rest[0])<<8|uint16(rest[1])), err
		}},
		{queuePrefix, func(key, value []byte) (bool, error) {
			life, rest, err := parseOwned(key, queuePrefix, 8)
			if err != nil {
				return false, err
			}
			q, err := parseQueued(value)
			if err != nil {
				return false, err
			}
			return l.LoadQueued(life, binary.BigEndian.Uint64(rest), q), nil
		}},
	} {
		err := st.log.Scan([]byte(part.prefix), func(key, value []byte) bool {
			switch kept, err := part.load(key, value); {
			case err != nil:
				l.Corrupt(bytes.Clone(key), err)
			case !kept:
				st.Unset(bytes.Clone(key))
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkFormat compares the number that is stored, and has Run store this
// version's.
func (st *Store) checkFormat() error {
	v, err := st.log.Get([]byte(formatKey))
	if err != nil {
		return err
	}
	has := uint64(0)
	if v != nil {
		if len(v) != 4 {
			return fmt.Errorf("%w: %s", errRecord, formatKey)
		}
		has = uint64(binary.BigEndian.Uint32(v))
	}
	if err := format.Check(has, formatNumber); err != nil {
		return err
	}
	if has < formatNumber {
		st.Set([]byte(formatKey), binary.BigEndian.AppendUint32(nil, formatNumber))
	}
	return nil
}
