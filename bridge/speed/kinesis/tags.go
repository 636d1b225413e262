package kinesis

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode"
)

const maxTags = 50 // of a stream or consumer

// checkTags says whether tags may be added to those a resource has.
func (a API) checkTags(have, add map[string]string, what string) error {
	for k, v := range add {
		if !taggable(k) || !taggable(v) {
			return errorf(InvalidArgument,
				"Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ "+
					". / = + - : @.")
		}
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return errorf(InvalidArgument,
				"Failed to add tags to %s under account %s because keys that begin with aws: are reserved.", what,
				a.s.opts.Account)
		}
	}
	n := len(have)
	for k := range add {
		if _, ok := have[k]; !ok {
			n++
		}
	}
	if n > maxTags {
		return errorf(InvalidArgument, "Failed to add tags to %s under account %s because a given stream cannot "+
			"have more than %d tags associated with it.",
			what, a.s.opts.Account, maxTags)
	}
	return nil
}

func taggable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.Z) && !strings.ContainsRune("_./=+-:@", r) ||
			r == unicode.ReplacementChar
	})
}

func tagList(tags map[string]string) []Tag {
	all := make([]Tag, 0, len(tags))
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		v := tags[k]
		all = append(all, Tag{k, &v})
	}
	return all
}

// AddTagsToStream adds tags, or gives those that are there new values.
func (a API) AddTagsToStream(ctx context.Context, in *AddTagsToStreamInput) error {
	return a.editTags(in.StreamRef, "", in.Tags, nil)
}

// RemoveTagsFromStream removes tags; those that are not there are passed over.
func (a API) RemoveTagsFromStream(ctx context.Context, in *RemoveTagsFromStreamInput) error {
	return a.editTags(in.StreamRef, "", nil, in.TagKeys)
}

// TagResource is AddTagsToStream for streams and consumers.
func (a API) TagResource(ctx context.Context, in *TagResourceInput) error {
	ref, consumer, err := a.resource(*in.ResourceARN)
	if err != nil {
		return err
	}
	return a.editTags(ref, consumer, in.Tags, nil)
}

// UntagResource is RemoveTagsFromStream for streams and consumers.
func (a API) UntagResource(ctx context.Context, in *UntagResourceInput) error {
	ref, consumer, err := a.resource(*in.ResourceARN)
	if err != nil {
		return err
	}
	return a.editTags(ref, consumer, nil, in.TagKeys)
}

func (a API) editTags(ref StreamRef, consumerARN string, add map[string]string, remove []string) error {
	if err := a.rate("Tags", 5); err != nil {
		return err
	}
	return a.edit(ref, func(st *stream, at *attributes) error {
		if st.status == creating {
			return a.requireActive(st)
		}
		tags, what := &at.Tags, "stream "+st.Name
		if consumerARN != "" {
			c, err := a.consumerOf(st, at, consumerARN)
			if err != nil {
				return err
			}
			tags, what = &c.Tags, "consumer "+c.Name
		}
		if err := a.checkTags(*tags, add, what); err != nil {
			return err
		}
		for _, k := range remove {
			if !taggable(k) {
				return a.checkTags(nil, map[string]string{k: ""}, what)
			}
			delete(*tags, k)
		}
		if *tags == nil {
			*tags = map[string]string{}
		}
		maps.Copy(*tags, add)
		return nil
	})
}

// ListTagsForStream lists tags by key.
func (a API) ListTagsForStream(ctx context.Context, in *ListTagsForStreamInput) (*ListTagsForStreamOutput, error) {
	if err := a.rate("ListTags", 5); err != nil {
		return nil, err
	}
	st, err := a.find(in.StreamRef)
	if err != nil {
		return nil, err
	}
	tags := tagList(st.Tags)
	if k := in.ExclusiveStartTagKey; k != nil {
		tags = slices.DeleteFunc(tags, func(t Tag) bool { return t.Key <= *k })
	}
	out := &ListTagsForStreamOutput{Tags: tags}
	if n := in.Limit; n != nil && len(tags) > int(*n) {
		out.Tags, out.HasMoreTags = tags[:*n], true
	}
	return out, nil
}

// ListTagsForResource lists the tags of a stream or consumer by key.
func (a API) ListTagsForResource(ctx context.Context, in *ListTagsForResourceInput) (*ListTagsForResourceOutput,
	error) {
	if err := a.rate("ListTags", 5); err != nil {
		return nil, err
	}
	st, c, err := a.owner(*in.ResourceARN)
	if err != nil {
		return nil, err
	}
	tags := st.Tags
	if c != nil {
		tags = c.Tags
	}
	return &ListTagsForResourceOutput{tagList(tags)}, nil
}

// resource reads the ARN of a stream, or of a consumer, which is returned too.
func (a API) resource(s string) (ref StreamRef, consumerARN string, err error) {
	to, ok := parseARN(s)
	switch {
	case !ok:
		return ref, "", errorf(InvalidArgument, "ResourceARN %s is not the ARN of a stream or consumer.", s)
	case to.account != a.s.opts.Account:
		return ref, "", errorf(ResourceNotFound, "Stream %s under account %s not found.", to.stream, to.account)
	case to.consumer != "":
		consumerARN = s
	}
	return StreamRef{StreamName: &to.stream}, consumerARN, nil
}

// owner finds what an ARN names: a stream, and the consumer if it is one of it.
func (a API) owner(resourceARN string) (*stream, *consumer, error) {
	ref, consumerARN, err := a.resource(resourceARN)
	if err != nil {
		return nil, nil, err
	}
	st, err := a.find(ref)
	if err != nil || consumerARN == "" {
		return st, nil, err
	}
	c, err := a.consumerOf(st, st.attributes, consumerARN)
	return st, c, err
}
