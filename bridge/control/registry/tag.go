package registry

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"
)

// Limits of tags (AWS general reference, tagging).
const (
	MaxTags     = 50  // on one resource
	MaxTagKey   = 128 // characters
	MaxTagValue = 256
)

// tagged are the kinds of resources that may have tags, as their ARNs name
// them, with the bucket that has the resource.
var tagged = map[string][]byte{
	"thinggroup": bGroups, "thingtype": bTypes, "billinggroup": bBillingGroups, "policy": bPolicies, "rule": bRules,
	"cacert": bCAs, "provisioningtemplate": bTemplates, "authorizer": bAuthorizers, "rolealias": bRoleAliases,
}

// taggable returns an error unless resource, the last part of an ARN, is there
// and may have tags.
func (t *Tx) taggable(resource string) error {
	kind, name, _ := strings.Cut(resource, "/")
	bucket := tagged[kind]
	if bucket == nil || name == "" {
		return fmt.Errorf("%.200q: %w: resources of this kind have no tags", resource, ErrInvalid)
	}
	if !t.has(bucket, name) {
		return fmt.Errorf("%s: %w", resource, ErrNotFound)
	}
	return nil
}

// Tags returns the tags of a resource, named by the last part of its ARN, such
// as thinggroup/pumps.
func (t *Tx) Tags(resource string) (map[string]string, error) {
	if err := t.taggable(resource); err != nil {
		return nil, err
	}
	tags := map[string]string{}
	if err := t.get(bTags, "tags of", resource, &tags); err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	return tags, nil
}

// Tag adds tags to a resource, over those of the same key. More than MaxTags is
// ErrLimit.
func (t *Tx) Tag(resource string, add map[string]string) error {
	tags, err := t.Tags(resource)
	if err != nil || len(add) == 0 {
		return err
	}
	for k, v := range add {
		if k == "" || utf8.RuneCountInString(k) > MaxTagKey || utf8.RuneCountInString(v) > MaxTagValue ||
			strings.HasPrefix(strings.ToLower(k), "aws:") {
			return fmt.Errorf(
				"%s: tag %.200q: %w: want a key of 1 to %d characters that does not begin with aws:, and a value "+
					"of at most %d",
				resource, k, ErrInvalid, MaxTagKey, MaxTagValue)
		}
	}
	maps.Copy(tags, add)
	if len(tags) > MaxTags {
		return fmt.Errorf("%s: %d tags: %w", resource, len(tags), ErrLimit)
	}
	return t.put(bTags, resource, tags)
}

// Untag removes tags from a resource; keys that it does not have are no error.
func (t *Tx) Untag(resource string, keys []string) error {
	tags, err := t.Tags(resource)
	if err != nil {
		return err
	}
	for _, k := range keys {
		delete(tags, k)
	}
	if len(tags) == 0 {
		return t.deleteTags(resource)
	}
	return t.put(bTags, resource, tags)
}

// deleteTags forgets the tags of a resource that is being deleted.
func (t *Tx) deleteTags(resource string) error { return t.tx.Table(bTags).Delete([]byte(resource)) }
