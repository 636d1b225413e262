package kinesis

import (
	"errors"
	"maps"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Declaration is a stream as those in the same program ask for it. What is
// nil is left as it is, and has CreateStream's default in a new stream, but for
// a ShardCount of 1.
type Declaration struct {
	StreamName         string
	ShardCount         *int32
	StreamModeDetails  *StreamModeDetails
	Tags               map[string]string // if not nil, exactly these
	MaxRecordSizeInKiB *int32
	Retention          *time.Duration // 0: for ever; any other, not only the API's hours
}

// Check says what is wrong with a declaration in itself.
func (d *Declaration) Check() error {
	mode := d.StreamModeDetails
	switch {
	case !nameLike.MatchString(d.StreamName):
		return errorf(Validation, "StreamName: %.40q, want 1 to 128 of a-z A-Z 0-9 _ . -", d.StreamName)
	case mode != nil && (mode.StreamMode == nil || *mode.StreamMode != onDemand && *mode.StreamMode != provisioned):
		return errorf(Validation, "StreamModeDetails: want a StreamMode, %s or %s", provisioned, onDemand)
	case d.ShardCount != nil && mode != nil && *mode.StreamMode == onDemand:
		return errorf(Validation, "ShardCount: a stream in On-Demand mode has none")
	case d.ShardCount != nil && (*d.ShardCount < 1 || *d.ShardCount > streams.MaxShards):
		return errorf(Validation, "ShardCount: %d, want 1 to %d", *d.ShardCount, streams.MaxShards)
	case d.MaxRecordSizeInKiB != nil && (*d.MaxRecordSizeInKiB < 1024 || *d.MaxRecordSizeInKiB > 10240):
		return errorf(Validation, "MaxRecordSizeInKiB: %d, want 1024 to 10240", *d.MaxRecordSizeInKiB)
	case d.Retention != nil && *d.Retention < 0:
		return errorf(Validation, "retention: %v, want 0 for none, or more", *d.Retention)
	}
	for k, v := range d.Tags {
		if n := len([]rune(k)); n < 1 || n > 128 || len([]rune(v)) > 256 {
			return errorf(Validation, "Tags: %.40q, want keys of 1 to 128 characters and values of at most 256", k)
		}
	}
	return nil
}

// Declare makes a stream, or makes one that exists as it is declared. Shards
// are changed, as UpdateShardCount does but to any number, when another number
// is declared than the last time: what was split or merged by hand since stays.
// The retention is durable by itself, then the rest is, in one step; declaring
// the same again does what is left. A stream that is CREATING or DELETING is
// left alone, with ResourceInUse if it would change.
func (s *Service) Declare(d Declaration) error {
	if err := d.Check(); err != nil {
		return err
	}
	a := s.In("")
	_, err := s.look(d.StreamName)
	switch {
	case errors.Is(err, streams.ErrNotFound):
		c := creation{name: d.StreamName, shards: 1, retention: defaultRetention, doc: &attributes{}}
		d.settings(c.doc)
		if c.doc.Mode == onDemand {
			c.shards = onDemandShards
		}
		if d.ShardCount != nil {
			c.shards, c.doc.Declared = int(*d.ShardCount), int(*d.ShardCount)
		}
		if d.Retention != nil {
			c.retention = *d.Retention
		}
		return a.create(c)
	case err != nil:
		return err
	}
	s.quota.Lock()
	defer s.quota.Unlock()
	return a.alter(StreamRef{StreamName: &d.StreamName}, func(st *stream) error {
		at := st.copy()
		d.settings(at)
		if err := a.checkTags(nil, at.Tags, "stream "+st.Name); err != nil {
			return err
		}
		var changes []streams.Change
		if d.ShardCount != nil {
			var err error
			if changes, err = a.declareShards(st, at, int(*d.ShardCount)); err != nil {
				return err
			}
		}
		kept := d.Retention == nil || *d.Retention == st.Retention
		same := string(at.encode()) == string(st.attributes.encode())
		if kept && same {
			return nil
		}
		if !st.takes() {
			return a.requireActive(st)
		}
		if !kept {
			if err := s.store.Update(st.Name, *d.Retention, st.MaxBytes); err != nil {
				return err
			}
			s.update(st)
		}
		if len(changes) == 0 {
			return s.save(st, at)
		}
		return a.reshardAs(st, at, changes...)
	})
}

func (d *Declaration) settings(at *attributes) {
	if m := d.StreamModeDetails; m != nil {
		at.Mode = ""
		if *m.StreamMode == onDemand {
			at.Mode = onDemand
		}
	}
	if d.Tags != nil {
		at.Tags = maps.Clone(d.Tags)
	}
	if d.MaxRecordSizeInKiB != nil {
		at.MaxRecord = *d.MaxRecordSizeInKiB
	}
}

// declareShards returns what gives a stream the number of shards that was
// declared, which at notes; nothing if it was declared before.
func (a API) declareShards(st *stream, at *attributes, n int) ([]streams.Change, error) {
	last := at.Declared
	if last == 0 {
		last = st.Shards // that it began with
	}
	at.Declared = n
	if n == last {
		return nil, nil
	}
	if at.Mode == onDemand {
		return nil, errorf(Validation, "ShardCount: stream %s is in On-Demand mode", st.Name)
	}
	return a.plan(st, n)
}
