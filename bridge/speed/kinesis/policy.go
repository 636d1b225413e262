package kinesis

import (
	"context"
	"encoding/json"
)

const maxPolicy = 20 << 10 // bytes (developer guide)

// PutResourcePolicy keeps a policy with a stream or consumer. It is returned
// by GetResourcePolicy and has no other effect: the bridge's access keys may do
// all or nothing, and there are no other accounts.
func (a API) PutResourcePolicy(ctx context.Context, in *PutResourcePolicyInput) error {
	var doc map[string]any
	if len(*in.Policy) > maxPolicy || json.Unmarshal([]byte(*in.Policy), &doc) != nil || doc == nil {
		return errorf(InvalidArgument, "Policy must be a JSON object of at most %d bytes.", maxPolicy)
	}
	return a.setPolicy(*in.ResourceARN, func(policy *string) error {
		*policy = *in.Policy
		return nil
	})
}

// DeleteResourcePolicy removes a policy that is there.
func (a API) DeleteResourcePolicy(ctx context.Context, in *DeleteResourcePolicyInput) error {
	return a.setPolicy(*in.ResourceARN, func(policy *string) error {
		if *policy == "" {
			return errorf(ResourceNotFound, "No resource policy found for resource ARN %s.", *in.ResourceARN)
		}
		*policy = ""
		return nil
	})
}

func (a API) setPolicy(resource string, set func(policy *string) error) error {
	if err := a.rate("ResourcePolicy", 5); err != nil {
		return err
	}
	ref, consumer, err := a.resource(resource)
	if err != nil {
		return err
	}
	return a.edit(ref, func(st *stream, at *attributes) error {
		if consumer == "" {
			return set(&at.Policy)
		}
		c, err := a.consumerOf(st, at, consumer)
		if err == nil {
			err = set(&c.Policy)
		}
		return err
	})
}

// GetResourcePolicy returns the policy, {} if there is none.
func (a API) GetResourcePolicy(ctx context.Context, in *GetResourcePolicyInput) (*GetResourcePolicyOutput, error) {
	if err := a.rate("ResourcePolicy", 5); err != nil {
		return nil, err
	}
	st, c, err := a.owner(*in.ResourceARN)
	if err != nil {
		return nil, err
	}
	policy := st.Policy
	if c != nil {
		policy = c.Policy
	}
	if policy == "" {
		policy = "{}"
	}
	return &GetResourcePolicyOutput{policy}, nil
}
