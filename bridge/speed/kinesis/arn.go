package kinesis

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
)

// nameLike is what the API lets a stream be called; the bridge's own streams
// begin with $, so that no caller reaches them.
var nameLike = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// IsName says whether the API lets a stream be called so.
func IsName(s string) bool { return nameLike.MatchString(s) }

// streamARN is the ARN of a stream as this caller sees it.
func (a API) streamARN(name string) string {
	return arn.Of("kinesis", a.region, a.s.opts.Account, "stream/"+name)
}

// consumerARN is that of a consumer; it ends in the second of its creation.
func (a API) consumerARN(stream string, c *consumer) string {
	return fmt.Sprintf("%s/consumer/%s:%d", a.streamARN(stream), c.Name, c.Created/1000)
}

// A resource is what an ARN names: a stream, or a consumer of one.
type resource struct {
	account  string
	stream   string
	consumer string    // "" for the stream itself
	created  time.Time // of the consumer, to the second
}

// parseARN reads the ARN of a stream or consumer. The region is not compared:
// one bridge is all regions.
func parseARN(s string) (resource, bool) {
	n, ok := arn.Parse(s)
	if !ok || n.Service != "kinesis" {
		return resource{}, false
	}
	name, ok := strings.CutPrefix(n.Resource, "stream/")
	if !ok {
		return resource{}, false
	}
	out := resource{account: n.Account}
	name, rest, ok := strings.Cut(name, "/")
	if ok {
		consumer, ok := strings.CutPrefix(rest, "consumer/")
		at := strings.LastIndexByte(consumer, ':')
		if !ok || at < 0 {
			return resource{}, false
		}
		sec, err := strconv.ParseInt(consumer[at+1:], 10, 64)
		if err != nil || !nameLike.MatchString(consumer[:at]) {
			return resource{}, false
		}
		out.consumer, out.created = consumer[:at], time.Unix(sec, 0)
	}
	out.stream = name
	return out, nameLike.MatchString(name)
}

// refer makes a reference of an ARN alone.
func refer(streamARN *string) StreamRef { return StreamRef{StreamARN: streamARN} }

// name is the name in a reference. An ARN of another account names nothing.
func (a API) name(ref StreamRef) (string, error) {
	if ref.StreamARN == nil {
		if ref.StreamName == nil {
			return "", errorf(InvalidArgument, "Either StreamName or StreamARN should be provided.")
		}
		return *ref.StreamName, nil
	}
	to, ok := parseARN(*ref.StreamARN)
	switch {
	case !ok || to.consumer != "":
		return "", errorf(InvalidArgument, "StreamARN %s is not the ARN of a stream.", *ref.StreamARN)
	case ref.StreamName != nil && *ref.StreamName != to.stream:
		return "", errorf(InvalidArgument, "StreamName %s and StreamARN %s do not name the same stream.",
			*ref.StreamName, *ref.StreamARN)
	case to.account != a.s.opts.Account:
		return "", errorf(ResourceNotFound, "Stream %s under account %s not found.", to.stream, to.account)
	}
	return to.stream, nil
}
