package kinesis

import (
	"context"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// reshape is for operations that change shards: those of a provisioned stream
// that is ACTIVE.
func (a API) reshape(ref StreamRef, f func(st *stream) error) error {
	a.s.quota.Lock()
	defer a.s.quota.Unlock()
	return a.change(ref, func(st *stream) error {
		if err := a.requireActive(st); err != nil {
			return err
		}
		if st.Mode == onDemand {
			return errorf(Validation, "Request is invalid. Stream %s under account %s is in On-Demand mode.", st.Name,
				a.s.opts.Account)
		}
		return f(st)
	})
}

// reshard makes changes durable and shows the stream as UPDATING.
func (a API) reshard(st *stream, changes ...streams.Change) error {
	if _, err := a.s.store.Reshard(st.Name, changes...); err != nil {
		return err
	}
	a.s.update(st)
	return nil
}

// reshardAs is reshard that saves attributes in the same write; there may be
// no changes.
func (a API) reshardAs(st *stream, at *attributes, changes ...streams.Change) error {
	if len(changes) == 0 {
		a.s.update(st)
		return a.s.save(st, at)
	}
	if _, err := a.s.store.ReshardAs(st.Name, at.encode(), changes...); err != nil {
		return err
	}
	st.ctl.doc.Store(at)
	a.s.update(st)
	return nil
}

// shardToChange finds a shard that is open.
func (a API) shardToChange(st *stream, id string) (*streams.Shard, error) {
	if index, ok := shardIndex(id); ok {
		id = shardID(index)
		all, err := streams.Shards(a.s.store, st.Name)
		if err != nil {
			return nil, err
		}
		for i := range all {
			switch {
			case all[i].Index != index:
			case !all[i].Open():
				return nil, errorf(InvalidArgument,
					"Shard %s in stream %s under account %s has already been merged or split, "+
						"and thus is not eligible for merging or splitting.", id, st.Name, a.s.opts.Account)
			default:
				return &all[i], nil
			}
		}
	}
	return nil, errorf(ResourceNotFound, "Could not find shard %s in stream %s under account %s.", id, st.Name,
		a.s.opts.Account)
}

// SplitShard closes a shard and opens two in its place, the second of which
// begins at NewStartingHashKey. It is durable when SplitShard returns; the next
// record goes to a child.
func (a API) SplitShard(ctx context.Context, in *SplitShardInput) error {
	if err := a.rate("SplitShard", 5); err != nil {
		return err
	}
	return a.reshape(in.StreamRef, func(st *stream) error {
		sh, err := a.shardToChange(st, *in.ShardToSplit)
		if err != nil {
			return err
		}
		if err := a.room(1); err != nil {
			return err
		}
		at, err := streams.ParseHash(*in.NewStartingHashKey)
		if err != nil || !divides(sh.Range, at) {
			return errorf(InvalidArgument,
				"NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s "+
					"is not both greater than one plus the shard's StartingHashKey %s and less than the shard's "+
					"EndingHashKey %s.",
				*in.NewStartingHashKey, shardID(sh.Index), st.Name, a.s.opts.Account, sh.Range.Start, sh.Range.End)
		}
		return a.reshard(st, split(sh.Index, sh.Range, at))
	})
}

// divides says whether a shard may be split at h: neither child may have less
// than two hash keys.
func divides(r streams.Range, h streams.Hash) bool {
	return plus(r.Start, 1).Compare(h) < 0 && h.Compare(r.End) < 0
}

func split(index int, r streams.Range, at streams.Hash) streams.Change {
	return streams.Change{Parents: []int{index},
		Ranges: []streams.Range{{Start: r.Start, End: plus(at, -1)}, {Start: at, End: r.End}}}
}

// MergeShards closes two shards and opens one in their place. ShardToMerge has
// the lower range. It is durable when MergeShards returns.
func (a API) MergeShards(ctx context.Context, in *MergeShardsInput) error {
	if err := a.rate("MergeShards", 5); err != nil {
		return err
	}
	return a.reshape(in.StreamRef, func(st *stream) error {
		low, err := a.shardToChange(st, *in.ShardToMerge)
		if err != nil {
			return err
		}
		high, err := a.shardToChange(st, *in.AdjacentShardToMerge)
		if err != nil {
			return err
		}
		if low.Range.End == streams.MaxHash || plus(low.Range.End, 1) != high.Range.Start {
			return errorf(InvalidArgument,
				"Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for "+
					"merging",
				shardID(low.Index), shardID(high.Index), st.Name, a.s.opts.Account)
		}
		return a.reshard(st, streams.Change{
			Parents: []int{low.Index, high.Index},
			Ranges:  []streams.Range{{Start: low.Range.Start, End: high.Range.End}}})
	})
}

const scalesPerDay = 10

// UpdateShardCount gives a stream so many shards with even ranges: at most
// twice as many as it has and no less than half, ten times in 24 hours. All of
// it is one durable write.
func (a API) UpdateShardCount(ctx context.Context, in *UpdateShardCountInput) (*UpdateShardCountOutput, error) {
	if err := a.rate("UpdateShardCount", 5); err != nil {
		return nil, err
	}
	var out *UpdateShardCountOutput
	err := a.reshape(in.StreamRef, func(st *stream) error {
		target, have := int(*in.TargetShardCount), len(a.s.open(st.Name))
		const text = "UpdateShardCount cannot scale %s your current open shard count. Current open shard count: " +
			"%d Target shard count: %d"
		switch {
		case target > 2*have:
			return errorf(InvalidArgument, text, "up over double", have, target)
		case 2*target < have:
			return errorf(InvalidArgument, text, "down below half", have, target)
		}
		at := st.copy()
		now := a.s.now()
		if at.Scaled = recent(at.Scaled, now); len(at.Scaled) >= scalesPerDay {
			return errorf(LimitExceeded,
				"The shard count of stream %s under account %s was updated %d times within 24 hours, which is "+
					"the limit.",
				st.Name, a.s.opts.Account, len(at.Scaled))
		}
		changes, err := a.plan(st, target)
		if err != nil {
			return err
		}
		arn, was, will := a.streamARN(st.Name), int32(have), int32(target)
		out = &UpdateShardCountOutput{StreamName: &st.Name, StreamARN: &arn, CurrentShardCount: &was,
			TargetShardCount: &will}
		if len(changes) == 0 {
			return nil
		}
		at.Scaled = append(at.Scaled, now.UnixMilli())
		return a.reshardAs(st, at, changes...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// plan returns what gives a stream so many shards with even ranges, if there
// is room for them. The caller is in reshape, or holds quota and is in change.
func (a API) plan(st *stream, target int) ([]streams.Change, error) {
	open := a.s.open(st.Name)
	if more := target - len(open); more > 0 {
		if err := a.room(more); err != nil {
			return nil, err
		}
	}
	all, err := streams.Shards(a.s.store, st.Name)
	if err != nil {
		return nil, err
	}
	return evenOut(open, all[len(all)-1].Index+1, streams.Even(target)), nil
}

// evenOut turns the open shards, in the order of their ranges, into shards of
// the wanted ranges: first it splits at each boundary that is new, then it
// merges what is within one range, neighbours first, so that there are few
// generations. New shards get indexes from next on.
func evenOut(open []streams.Shard, next int, want []streams.Range) []streams.Change {
	type piece struct {
		index int
		streams.Range
	}
	var changes []streams.Change
	within := make([][]piece, len(want))
	w := 0
	for i := range open {
		p := piece{open[i].Index, open[i].Range}
		for p.End.Compare(want[w].End) > 0 {
			at := plus(want[w].End, 1)
			changes = append(changes, split(p.index, p.Range, at))
			within[w] = append(within[w], piece{next, streams.Range{Start: p.Start, End: want[w].End}})
			p = piece{next + 1, streams.Range{Start: at, End: p.End}}
			next += 2
			w++
		}
		within[w] = append(within[w], p)
		if p.End == want[w].End {
			w++
		}
	}
	for _, ps := range within {
		for len(ps) > 1 {
			var merged []piece
			for ; len(ps) > 1; ps = ps[2:] {
				r := streams.Range{Start: ps[0].Start, End: ps[1].End}
				changes = append(changes,
					streams.Change{Parents: []int{ps[0].index, ps[1].index}, Ranges: []streams.Range{r}})
				merged = append(merged, piece{next, r})
				next++
			}
			ps = append(merged, ps...)
		}
	}
	return changes
}

// plus is the hash key one after or before, wrapping around.
func plus(h streams.Hash, d int) streams.Hash {
	if d < 0 {
		if h.Lo--; h.Lo == 1<<64-1 {
			h.Hi--
		}
		return h
	}
	if h.Lo++; h.Lo == 0 {
		h.Hi++
	}
	return h
}
