package kinesis

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const (
	onDemandShards   = 4  // an on-demand stream begins with
	onDemandStreams  = 50 // an account's quota of them; held to where limits are emulated
	creatingStreams  = 5  // likewise, of streams that are CREATING at once
	defaultRetention = 24 * time.Hour
)

// CreateStream makes a stream; it is durable when CreateStream returns, and
// takes records when it is ACTIVE.
func (a API) CreateStream(ctx context.Context, in *CreateStreamInput) error {
	if err := a.rate("CreateStream", 5); err != nil {
		return err
	}
	c := creation{name: *in.StreamName, retention: defaultRetention, doc: &attributes{Tags: in.Tags}}
	if in.MaxRecordSizeInKiB != nil {
		c.doc.MaxRecord = *in.MaxRecordSizeInKiB
	}
	auto := in.RecordDistributionStrategy != nil && *in.RecordDistributionStrategy == distributeAuto
	switch m := in.StreamModeDetails; {
	// A stream of which only the name is given is on-demand.
	case m != nil && *m.StreamMode == onDemand, m == nil && in.ShardCount == nil:
		if in.ShardCount != nil {
			return errorf(Validation, "ShardCount cannot be given for a stream in On-Demand mode.")
		}
		c.doc.Mode, c.shards, c.doc.Auto = onDemand, onDemandShards, auto
		if in.WarmThroughputMiBps != nil {
			if *in.WarmThroughputMiBps < 0 {
				return errorf(InvalidArgument, "WarmThroughputMiBps must not be negative.")
			}
			c.doc.Warm = *in.WarmThroughputMiBps
			c.shards = max(c.shards, int(c.doc.Warm)) // a shard takes 1 MiB/s
		}
	case auto:
		return errorf(InvalidArgument, "RecordDistributionStrategy AUTO can only be given for a stream in "+
			"On-Demand mode.")
	case in.ShardCount == nil:
		return errorf(Validation, "ShardCount must be given for a stream in Provisioned mode.")
	case in.WarmThroughputMiBps != nil:
		return errorf(Validation, "WarmThroughputMiBps can only be given for a stream in On-Demand mode.")
	default:
		c.shards = int(*in.ShardCount)
	}
	return a.create(c)
}

// A creation is a stream to be made.
type creation struct {
	name      string
	shards    int
	retention time.Duration
	doc       *attributes
}

func (a API) create(c creation) error {
	if !nameLike.MatchString(c.name) {
		return errorf(Validation, "StreamName: %.40q, want 1 to 128 of a-z A-Z 0-9 _ . -", c.name)
	}
	if err := a.checkTags(nil, c.doc.Tags, "stream "+c.name); err != nil {
		return err
	}
	a.s.quota.Lock()
	defer a.s.quota.Unlock()
	exists := errorf(ResourceInUse, "Stream %s under account %s already exists.", c.name, a.s.opts.Account)
	if _, err := a.s.look(c.name); err == nil { // which ends a deletion that is due
		return exists
	} else if !errors.Is(err, streams.ErrNotFound) {
		return err
	}
	if err := a.checkCreating(c.doc.Mode); err != nil {
		return err
	}
	if err := a.room(c.shards); err != nil {
		return err
	}
	err := a.s.store.Create(c.name, streams.Config{Shards: c.shards, Retention: c.retention,
		Attributes: c.doc.encode()})
	if errors.Is(err, streams.ErrExists) {
		return exists
	}
	return err
}

// checkCreating holds to the limits of an account where they are emulated.
func (a API) checkCreating(mode string) error {
	if !a.s.opts.Emulate {
		return nil
	}
	all, err := a.s.all()
	if err != nil {
		return err
	}
	made, scaled := 0, 0
	for _, st := range all {
		if st.status == creating {
			made++
		}
		if st.Mode == onDemand {
			scaled++
		}
	}
	switch {
	case made >= creatingStreams:
		return errorf(LimitExceeded, "This request would exceed the limit of %d streams in state CREATING for "+
			"the account %s.",
			creatingStreams, a.s.opts.Account)
	case mode == onDemand && scaled >= onDemandStreams:
		return errorf(LimitExceeded, "This request would exceed the limit of %d streams in On-Demand mode for "+
			"the account %s.",
			onDemandStreams, a.s.opts.Account)
	}
	return nil
}

// all returns the streams by name.
func (s *Service) all() ([]*stream, error) {
	var all []*stream
	for _, info := range s.store.List() {
		if !nameLike.MatchString(info.Name) {
			continue
		}
		st, err := s.look(info.Name)
		switch {
		case err == nil:
			all = append(all, st)
		case !errors.Is(err, streams.ErrNotFound):
			return nil, err
		}
	}
	return all, nil
}

// openShards is how many shards all streams have open.
func (s *Service) openShards() (n int) {
	for _, info := range s.store.List() {
		if nameLike.MatchString(info.Name) {
			n += len(s.open(info.Name))
		}
	}
	return n
}

// open returns the open shards of a stream by range; none if it is gone.
func (s *Service) open(name string) []streams.Shard {
	all, _ := streams.Shards(s.store, name)
	var open []streams.Shard
	for i := range all {
		if all[i].Open() {
			open = append(open, all[i])
		}
	}
	slices.SortFunc(open, func(a, b streams.Shard) int { return a.Range.Start.Compare(b.Range.Start) })
	return open
}

// room says whether there may be so many more shards. The caller holds quota
// until they are made.
func (a API) room(more int) error {
	have := a.s.openShards()
	if have+more <= a.s.opts.MaxShards && more <= streams.MaxShards {
		return nil
	}
	return errorf(LimitExceeded, "This request would exceed the shard limit for the account %s in %s. "+
		"Current shard count for the account: %d. Limit: %d. "+
		"Number of additional shards that would have resulted from this request: %d.",
		a.s.opts.Account, a.region, have, a.s.opts.MaxShards, more)
}

// DeleteStream deletes a stream with its records and consumers. That it goes
// is durable when DeleteStream returns: it is DELETING until it is gone, and
// its name can be used again then.
func (a API) DeleteStream(ctx context.Context, in *DeleteStreamInput) error {
	if err := a.rate("DeleteStream", 5); err != nil {
		return err
	}
	return a.alter(in.StreamRef, func(st *stream) error {
		if len(st.Consumers) > 0 && (in.EnforceConsumerDeletion == nil || !*in.EnforceConsumerDeletion) {
			return errorf(ResourceInUse,
				"Stream %s under account %s has consumers registered: deregister them, or set EnforceConsumerDeletion.",
				st.Name, a.s.opts.Account)
		}
		if a.s.opts.Delay == 0 {
			return a.s.drop(st)
		}
		at := st.copy()
		at.Deleting = true
		a.s.update(st) // before the state is seen
		if err := a.s.save(st, at); err != nil {
			return err
		}
		select {
		case a.s.wake <- struct{}{}:
		default:
		}
		return nil
	})
}
