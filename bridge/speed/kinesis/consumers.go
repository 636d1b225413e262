package kinesis

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const (
	maxConsumers      = 20 // of a stream
	creatingConsumers = 5  // at once; held to where limits are emulated
)

// A seenConsumer is a consumer as calls see it.
type seenConsumer struct {
	consumer
	status string
}

// consumers returns those of a stream by name, with those that are about to
// go.
func (s *Service) consumers(st *stream) []seenConsumer {
	now := s.now()
	all := make([]seenConsumer, 0, len(st.Consumers))
	for _, c := range st.Consumers {
		status := active
		if age := now.Sub(time.UnixMilli(c.Created)); age >= 0 && age < s.opts.Delay {
			status = creating
		}
		all = append(all, seenConsumer{c, status})
	}
	st.ctl.leavingMu.Lock()
	defer st.ctl.leavingMu.Unlock()
	st.ctl.leaving = slices.DeleteFunc(st.ctl.leaving, func(l leaving) bool { return !now.Before(l.until) })
	for _, l := range st.ctl.leaving {
		if st.find(l.Name) == nil { // else it is not yet durable
			all = append(all, seenConsumer{l.consumer, deleting})
		}
	}
	slices.SortFunc(all, func(a, b seenConsumer) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (a API) noConsumer(name string) *Error {
	return errorf(ResourceNotFound, "Consumer %s, account %s not found.", name, a.s.opts.Account)
}

// consumerOf finds the registered consumer of an ARN in at.
func (a API) consumerOf(st *stream, at *attributes, arn string) (*consumer, error) {
	to, ok := parseARN(arn)
	if ok && to.stream == st.Name {
		if c := at.find(to.consumer); c != nil && c.Created/1000 == to.created.Unix() {
			return c, nil
		}
	}
	return nil, a.noConsumer(to.consumer)
}

// consumer finds a consumer, in any state, by its ARN or by its stream's ARN
// and its name.
func (a API) consumer(streamARN, name, consumerARN *string) (*stream, *seenConsumer, error) {
	ref := refer(streamARN)
	var to resource
	switch {
	case consumerARN != nil:
		var ok bool
		if to, ok = parseARN(*consumerARN); !ok || to.consumer == "" {
			return nil, nil, errorf(InvalidArgument, "ConsumerARN %s is not the ARN of a consumer.", *consumerARN)
		}
		if to.account != a.s.opts.Account {
			return nil, nil, errorf(ResourceNotFound, "Consumer %s, account %s not found.", to.consumer, to.account)
		}
		ref.StreamName = &to.stream
		if name != nil && *name != to.consumer {
			return nil, nil, errorf(InvalidArgument,
				"ConsumerName %s and ConsumerARN %s do not name the same consumer.", *name, *consumerARN)
		}
	case streamARN == nil || name == nil:
		return nil, nil, errorf(InvalidArgument,
			"Either ConsumerARN, or StreamARN and ConsumerName should be provided.")
	default:
		to.consumer = *name
	}
	st, err := a.find(ref)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range a.s.consumers(st) {
		if c.Name == to.consumer && (to.created.IsZero() || to.created.Unix() == c.Created/1000) {
			return st, &c, nil
		}
	}
	return nil, nil, a.noConsumer(to.consumer)
}

func (a API) consumerShape(st *stream, c *seenConsumer) Consumer {
	return Consumer{c.Name, a.consumerARN(st.Name, &c.consumer), c.status, time.UnixMilli(c.Created)}
}

// RegisterStreamConsumer registers a consumer for SubscribeToShard; it is
// durable when RegisterStreamConsumer returns.
func (a API) RegisterStreamConsumer(ctx context.Context,
	in *RegisterStreamConsumerInput) (*RegisterStreamConsumerOutput, error) {
	if err := a.rate("RegisterStreamConsumer", 5); err != nil {
		return nil, err
	}
	name := *in.ConsumerName
	var out *RegisterStreamConsumerOutput
	err := a.edit(refer(in.StreamARN), func(st *stream, at *attributes) error {
		if !st.takes() {
			return a.requireActive(st)
		}
		if err := a.checkTags(nil, in.Tags, "consumer "+name); err != nil {
			return err
		}
		made := 0
		seen := a.s.consumers(st)
		for _, c := range seen {
			if c.Name == name {
				return errorf(ResourceInUse, "Consumer %s under stream %s already exists for account %s.", name,
					a.streamARN(st.Name), a.s.opts.Account)
			}
			if c.status == creating {
				made++
			}
		}
		if len(seen) >= maxConsumers || made >= creatingConsumers && a.s.opts.Emulate {
			return errorf(LimitExceeded,
				"Stream %s under account %s has %d consumers, %d of them in state CREATING; the limits are %d and %d.",
				st.Name, a.s.opts.Account, len(seen), made, maxConsumers, creatingConsumers)
		}
		c := seenConsumer{consumer{Name: name, Created: a.s.now().UnixMilli(), Tags: in.Tags}, active}
		if a.s.opts.Delay > 0 {
			c.status = creating
		}
		at.Consumers = append(at.Consumers, c.consumer)
		slices.SortFunc(at.Consumers, func(a, b consumer) int { return strings.Compare(a.Name, b.Name) })
		out = &RegisterStreamConsumerOutput{a.consumerShape(st, &c)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DescribeStreamConsumer describes a consumer.
func (a API) DescribeStreamConsumer(ctx context.Context,
	in *DescribeStreamConsumerInput) (*DescribeStreamConsumerOutput, error) {
	if err := a.rate("DescribeStreamConsumer", 20); err != nil {
		return nil, err
	}
	st, c, err := a.consumer(in.StreamARN, in.ConsumerName, in.ConsumerARN)
	if err != nil {
		return nil, err
	}
	return &DescribeStreamConsumerOutput{ConsumerDescription{
		c.Name, a.consumerARN(st.Name, &c.consumer), c.status, time.UnixMilli(c.Created), a.streamARN(st.Name)}}, nil
}

// DeregisterStreamConsumer removes a consumer, durably.
func (a API) DeregisterStreamConsumer(ctx context.Context, in *DeregisterStreamConsumerInput) error {
	if err := a.rate("DeregisterStreamConsumer", 5); err != nil {
		return err
	}
	st, c, err := a.consumer(in.StreamARN, in.ConsumerName, in.ConsumerARN)
	if err != nil {
		return err
	}
	arn := a.consumerARN(st.Name, &c.consumer)
	return a.edit(StreamRef{StreamName: &st.Name}, func(st *stream, at *attributes) error {
		old, err := a.consumerOf(st, at, arn)
		if err != nil {
			if c.status == deleting {
				return errorf(ResourceInUse, "Consumer %s, account %s is in state DELETING.", c.Name, a.s.opts.Account)
			}
			return err
		}
		if a.s.opts.Delay > 0 {
			st.ctl.leavingMu.Lock()
			st.ctl.leaving = append(st.ctl.leaving, leaving{*old, a.s.now().Add(a.s.opts.Delay)})
			st.ctl.leavingMu.Unlock()
		}
		at.Consumers = slices.DeleteFunc(at.Consumers, func(c consumer) bool { return c.Name == old.Name })
		return nil
	})
}

// ListStreamConsumers lists consumers by name, at most 100 where no MaxResults
// is given.
func (a API) ListStreamConsumers(ctx context.Context, in *ListStreamConsumersInput) (*ListStreamConsumersOutput,
	error) {
	if err := a.rate("ListStreamConsumers", 5); err != nil {
		return nil, err
	}
	st, err := a.find(refer(in.StreamARN))
	if err != nil {
		return nil, err
	}
	var after string
	if in.NextToken != nil {
		if in.StreamCreationTimestamp != nil {
			return nil, errorf(InvalidArgument, "NextToken and StreamCreationTimestamp cannot be provided together.")
		}
		t, err := a.redeem("ListStreamConsumers", *in.NextToken)
		if err != nil {
			return nil, err
		}
		if t.ID != st.ID {
			return nil, errorf(InvalidArgument, "NextToken is invalid.")
		}
		after = t.After
	}
	if !a.sameCreation(st, in.StreamCreationTimestamp) {
		return nil, a.noStream(st.Name, streams.ErrNotFound)
	}
	limit := 100
	if in.MaxResults != nil {
		limit = int(*in.MaxResults)
	}
	out := &ListStreamConsumersOutput{}
	for _, c := range a.s.consumers(st) {
		if c.Name <= after {
			continue
		}
		if len(out.Consumers) == limit {
			out.NextToken = a.issue(token{Op: "ListStreamConsumers", Stream: st.Name, ID: st.ID,
				After: out.Consumers[limit-1].ConsumerName})
			break
		}
		out.Consumers = append(out.Consumers, a.consumerShape(st, &c))
	}
	return out, nil
}
