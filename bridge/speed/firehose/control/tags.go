package control

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// maxTags is how many a delivery stream may have (Firehose API).
const maxTags = 50

// addTags returns have with more; have stays as it is.
func addTags(have map[string]string, more []Tag) (map[string]string, error) {
	all := maps.Clone(have)
	if all == nil && len(more) > 0 {
		all = map[string]string{}
	}
	for _, t := range more {
		if strings.HasPrefix(strings.ToLower(*t.Key), "aws:") {
			return nil, errorf(InvalidArgument, "Keys of tags that begin with aws: are reserved.")
		}
		all[*t.Key] = ""
		if t.Value != nil {
			all[*t.Key] = *t.Value
		}
	}
	if len(all) > maxTags {
		return nil, errorf(LimitExceeded, "A delivery stream cannot have more than %d tags.", maxTags)
	}
	return all, nil
}

// Tag is TagDeliveryStream.
func (s *Service) Tag(_ context.Context, in *TagInput) (*Empty, error) {
	return &Empty{}, s.change(in.Name(), func(_ found, st *state) (err error) {
		st.Tags, err = addTags(st.Tags, in.Tags)
		return err
	})
}

// Untag is UntagDeliveryStream; keys that are not there are passed over.
func (s *Service) Untag(_ context.Context, in *UntagInput) (*Empty, error) {
	return &Empty{}, s.change(in.Name(), func(_ found, st *state) error {
		st.Tags = maps.Clone(st.Tags)
		for _, k := range in.TagKeys {
			delete(st.Tags, k)
		}
		return nil
	})
}

// ListTags is ListTagsForDeliveryStream, by key.
func (s *Service) ListTags(_ context.Context, in *ListTagsInput) (*ListTagsOutput, error) {
	f, err := s.find(in.Name())
	if err != nil {
		return nil, err
	}
	limit := maxTags
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	out := &ListTagsOutput{HasMoreTags: new(bool)}
	if f.state == nil {
		return out, nil
	}
	for _, k := range slices.Sorted(maps.Keys(f.state.Tags)) {
		if in.ExclusiveStartTagKey != nil && k <= *in.ExclusiveStartTagKey {
			continue
		}
		if len(out.Tags) == limit {
			*out.HasMoreTags = true
			break
		}
		v := f.state.Tags[k]
		out.Tags = append(out.Tags, TagEntry{&k, &v})
	}
	return out, nil
}
