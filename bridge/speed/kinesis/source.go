package kinesis

import (
	"errors"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A source is a stream as those see it who write and read records.
type source struct {
	*flow
	retention  time.Duration
	maxRecord  int     // bytes of data and key
	encryption *string // what answers say about it
	emulate    bool    // limits are enforced
	auto       bool    // records go to any shard
}

// source finds a stream that takes records: ACTIVE or UPDATING.
func (a API) source(ref StreamRef) (*source, error) {
	st, err := a.find(ref)
	if err != nil {
		return nil, err
	}
	return a.sourceOf(st)
}

func (a API) sourceOf(st *stream) (*source, error) {
	if !st.takes() {
		return nil, errorf(ResourceNotFound, "Stream %s under account %s not found.", st.Name, a.s.opts.Account)
	}
	return &source{
		flow:       a.s.flows.of(a.s.store, st.Name, st.ID),
		retention:  st.Retention,
		maxRecord:  st.maxRecord(),
		encryption: st.encryption(),
		emulate:    a.s.opts.Emulate,
		auto:       st.Auto,
	}, nil
}

// noStream is the answer where a stream went away under a call.
func (a API) noStream(name string, err error) error {
	if errors.Is(err, streams.ErrNotFound) {
		return errorf(ResourceNotFound, "Stream %s under account %s not found.", name, a.s.opts.Account)
	}
	return err
}

func (a API) noShard(name string, index int) *Error {
	return errorf(ResourceNotFound, "Shard %s in stream %s under account %s does not exist", shardID(index), name,
		a.s.opts.Account)
}

var errDryRun = errorf(DryRun, "The request would have succeeded, but DryRun flag is set.")

func dry(flag *bool) bool { return flag != nil && *flag }

// A plane is the part of a Service that moves records.
type plane struct {
	flows   flows
	batches batches
	subs    subscriptions
}

// gone is the answer where a shard, or its stream, went away under a call.
func (a API) gone(name string, index int, err error) error {
	if errors.Is(err, streams.ErrNotFound) || errors.Is(err, streams.ErrShard) {
		return a.noShard(name, index)
	}
	return err
}

// shardNow returns a shard as it is now.
func (a API) shardNow(src *source, index int) (streams.Shard, error) {
	sh, err := streams.ShardAt(a.s.store, src.name, index)
	if err != nil {
		return sh, a.gone(src.name, index, err)
	}
	return sh, nil
}
