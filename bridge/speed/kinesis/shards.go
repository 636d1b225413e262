package kinesis

import (
	"context"
	"math"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// shapeOf is a shard as the API describes it.
func shapeOf(sh *streams.Shard) Shard {
	out := Shard{
		ShardId:             shardID(sh.Index),
		HashKeyRange:        HashKeyRange{sh.Range.Start.String(), sh.Range.End.String()},
		SequenceNumberRange: SequenceNumberRange{StartingSequenceNumber: firstSequence(sh).String()},
	}
	for i, to := range []**string{&out.ParentShardId, &out.AdjacentParentShardId} {
		if i < len(sh.Parents) {
			id := shardID(sh.Parents[i])
			*to = &id
		}
	}
	if !sh.Open() {
		last := lastSequence(sh).String()
		out.SequenceNumberRange.EndingSequenceNumber = &last
	}
	return out
}

// hasShards says whether a stream shows its shards: not while it is CREATING,
// nor when it is deleted then.
func (s *Service) hasShards(st *stream) bool { return !s.fresh(st, s.now()) }

// listed returns the shards of a stream that can be seen, by index: no closed one of which retention has left nothing.
func (a API) listed(st *stream) ([]streams.Shard, error) {
	if !a.s.hasShards(st) {
		return nil, nil
	}
	all, err := streams.Shards(a.s.store, st.Name)
	if err != nil {
		return nil, a.noStream(st.Name, err)
	}
	horizon := a.horizon(st)
	out := make([]streams.Shard, 0, len(all))
	for i := range all {
		if all[i].Open() || all[i].Closed.After(horizon) {
			out = append(out, all[i])
		}
	}
	return out, nil
}

// horizon is the time from which on records are kept: TRIM_HORIZON, unless the
// stream is younger.
func (a API) horizon(st *stream) time.Time {
	if st.Retention == 0 {
		return time.Time{}
	}
	return a.s.store.Expiry().Add(-st.Retention)
}

// afterShard reads an ExclusiveStartShardId.
func afterShard(id *string) (int, error) {
	if id == nil {
		return -1, nil
	}
	n, ok := shardIndex(*id)
	if !ok {
		return 0, errorf(InvalidArgument, "ExclusiveStartShardId %s is not the id of a shard.", *id)
	}
	return n, nil
}

// ListShards lists the shards of a stream, at most 1,000 where no MaxResults
// is given. New shards are in it as soon as they take records, since the KPL
// looks where its records went.
func (a API) ListShards(ctx context.Context, in *ListShardsInput) (*ListShardsOutput, error) {
	if err := a.rate("ListShards", 1000); err != nil {
		return nil, err
	}
	st, after, want, err := a.shardsWanted(in)
	if err != nil {
		return nil, err
	}
	if !st.takes() {
		return nil, a.requireActive(st)
	}
	all, err := a.listed(st)
	if err != nil {
		return nil, err
	}
	limit := 1000
	if in.MaxResults != nil {
		limit = int(*in.MaxResults)
	}
	horizon := a.horizon(st)
	if horizon.Before(st.Created) {
		horizon = st.Created
	}
	out := &ListShardsOutput{Shards: []Shard{}}
	for i := range all {
		if all[i].Index <= after || !want.takes(&all[i], horizon) {
			continue
		}
		if len(out.Shards) == limit {
			t := token{Op: "ListShards", Stream: st.Name, ID: st.ID, After: out.Shards[limit-1].ShardId,
				Filter: want.kind}
			if !want.at.IsZero() {
				t.At = want.at.UnixMilli()
			}
			out.NextToken = a.issue(t)
			break
		}
		out.Shards = append(out.Shards, shapeOf(&all[i]))
	}
	return out, nil
}

// shardsWanted reads a request of ListShards: which stream, from which shard
// on, and which of them. A ShardFilter beside a token has no effect, since the
// token knows it: the KPL sends both.
func (a API) shardsWanted(in *ListShardsInput) (*stream, int, filter, error) {
	fail := func(text string) (*stream, int, filter, error) {
		return nil, 0, filter{}, errorf(InvalidArgument, "%s", text)
	}
	if in.NextToken == nil {
		if in.StreamName == nil && in.StreamARN == nil {
			return fail("Either NextToken or StreamName should be provided.")
		}
		st, err := a.find(in.StreamRef)
		if err != nil {
			return nil, 0, filter{}, err
		}
		if !a.sameCreation(st, in.StreamCreationTimestamp) {
			return nil, 0, filter{}, a.noStream(st.Name, streams.ErrNotFound)
		}
		after, err := afterShard(in.ExclusiveStartShardId)
		if err != nil {
			return nil, 0, filter{}, err
		}
		f, from, err := parseFilter(in.ShardFilter)
		return st, max(after, from), f, err
	}
	switch {
	case in.StreamName != nil:
		return fail("NextToken and StreamName cannot be provided together.")
	case in.StreamCreationTimestamp != nil:
		return fail("NextToken and StreamCreationTimestamp cannot be provided together.")
	case in.ExclusiveStartShardId != nil:
		return fail("NextToken and ExclusiveStartShardId cannot be provided together.")
	}
	t, err := a.redeem("ListShards", *in.NextToken)
	if err != nil {
		return nil, 0, filter{}, err
	}
	if in.StreamARN != nil {
		if name, err := a.name(in.StreamRef); err != nil || name != t.Stream {
			return fail("NextToken and StreamARN are not of the same stream.")
		}
	}
	st, err := a.named(t.Stream)
	if err != nil {
		return nil, 0, filter{}, err
	}
	after, ok := shardIndex(t.After)
	if !ok || st.ID != t.ID {
		return fail("NextToken is invalid.")
	}
	f := filter{kind: t.Filter}
	if t.At != 0 {
		f.at = time.UnixMilli(t.At)
	}
	return st, after, f, nil
}

// sameCreation says whether a time is that of the stream's creation, to the
// second, as clients know it.
func (a API) sameCreation(st *stream, t *time.Time) bool {
	return t == nil || math.Abs(t.Sub(st.Created).Seconds()) < 1
}

// A filter is a ShardFilter, but for AFTER_SHARD_ID, which says where to
// begin.
type filter struct {
	kind string
	at   time.Time
}

func parseFilter(in *ShardFilter) (f filter, after int, err error) {
	after = -1
	if in == nil {
		return
	}
	f.kind = *in.Type
	switch f.kind {
	case "AFTER_SHARD_ID":
		if in.ShardId == nil {
			return f, after, errorf(InvalidArgument,
				"ShardId must be provided in a ShardFilter of type AFTER_SHARD_ID.")
		}
		after, err = afterShard(in.ShardId)
	case "AT_TIMESTAMP", "FROM_TIMESTAMP":
		if in.Timestamp == nil {
			return f, after, errorf(InvalidArgument, "Timestamp must be provided in a ShardFilter of type %s.", f.kind)
		}
		f.at = *in.Timestamp
	}
	return f, after, err
}

// takes says whether a shard that is listed passes. horizon is TRIM_HORIZON;
// times before that are taken as it (API reference, ShardFilter).
func (f filter) takes(sh *streams.Shard, horizon time.Time) bool {
	at := f.at
	if at.Before(horizon) {
		at = horizon
	}
	switch f.kind {
	case "AT_LATEST":
		return sh.Open()
	case "AT_TRIM_HORIZON", "AT_TIMESTAMP":
		return !sh.Created.After(at) && (sh.Open() || sh.Closed.After(at))
	case "FROM_TIMESTAMP":
		return sh.Open() || !sh.Closed.Before(at)
	}
	return true
}
