package kinesis

import "reflect"

// Resource is the ARN of the stream or consumer that an input is about, as a
// policy names it: with the caller's region and the bridge's account, whatever
// ARN was sent. "*" is of an input that names nothing, or nothing that can be.
// What it names need not be there.
//
// in is a pointer to one of the Inputs. An operation that takes several names
// refuses those that do not agree, so the first one counts.
func (a API) Resource(in any) string {
	v := reflect.ValueOf(in).Elem()
	text := func(member string) string {
		p, _ := v.FieldByName(member).Interface().(*string)
		if p == nil {
			return ""
		}
		return *p
	}
	for _, member := range []string{"ShardIterator", "NextToken", "ConsumerARN", "ResourceARN", "StreamARN",
		"StreamName"} {
		if !v.FieldByName(member).IsValid() || text(member) == "" {
			continue
		}
		switch s := text(member); member {
		case "ShardIterator":
			if it, err := parseIterator(s); err == nil {
				return a.streamARN(it.name)
			}
		case "NextToken":
			if t, err := a.redeem("ListShards", s); err == nil && t.Stream != "" {
				return a.streamARN(t.Stream)
			}
			continue // of other lists, which name their stream besides
		case "StreamName":
			return a.streamARN(s)
		default:
			if to, ok := parseARN(s); ok && to.account == a.s.opts.Account {
				return a.resourceARN(to)
			}
		}
		return "*"
	}
	return "*"
}

// resourceARN is the ARN of what an ARN names, for policies.
func (a API) resourceARN(to resource) string {
	if to.consumer == "" {
		return a.streamARN(to.stream)
	}
	return a.consumerARN(to.stream, &consumer{Name: to.consumer, Created: to.created.UnixMilli()})
}
