package kinesis

import "context"

// A Subscription is one SubscribeToShard under way.
type Subscription struct{}

// SubscribeToShard begins to push a shard's records to a consumer. An error
// here is one of the call; what goes wrong later comes from Next.
func (a API) SubscribeToShard(ctx context.Context, in *SubscribeToShardInput) (*Subscription, error) {
	return nil, errNotYet
}

// Next waits for the next event: records, or none as a heartbeat. io.EOF is the
// clean end, after five minutes or at the end of the shard; an *Error is for
// the client.
func (s *Subscription) Next(ctx context.Context) (*SubscribeToShardEvent, error) {
	return nil, errNotYet
}

// Close ends the subscription; call it in any case.
func (s *Subscription) Close() {}
