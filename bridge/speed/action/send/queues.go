package send

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/sns"
	"github.com/tidemill/tidemill/bridge/speed/sink/sqs"
)

func addQueues(o *Options, add adding) {
	queues := newClients(o, "sqs", sqs.New)
	add("sqs", sqs.MaxMessages, sqs.MaxBytes, func(ctx context.Context, ds deliveries) []error {
		return runs(ds, inGroups(ds, "queueUrl"), sqs.MaxMessages, sqs.MaxBytes, func(run deliveries) []error {
			queue := run[0].Parameter("queueUrl")
			c, err := queues.in(ctx, queueRegion(queue))
			if err != nil {
				return each(len(run), err)
			}
			return apart(run, func(run deliveries) []error {
				ms := make([]sqs.Message, len(run))
				for i, d := range run {
					if ms[i].Body = string(d.Data); sqs.IsFIFO(queue) {
						ms[i].Group, ms[i].ID = group(d), d.ID
					}
				}
				return c.Send(ctx, queue, ms)
			})
		})
	})
	elsewhere := publishElsewhere(o)
	add("sns", sns.MaxMessages, sns.MaxBytes, func(ctx context.Context, ds deliveries) []error {
		return runs(ds, param("targetArn"), sns.MaxMessages, 0, func(run deliveries) []error {
			if run[0].Subscriber() != "" {
				return o.Topics.give(ctx, o, run)
			}
			_, amazon := o.Places["sns"]
			err := NoTopic(run[0].Parameter("targetArn"), o.Topics.names(), amazon)
			if err != nil {
				return each(len(run), action.Permanent(err))
			}
			return elsewhere(ctx, run)
		})
	})
}

// NoTopic is an error if an ARN's topic is not among the bridge's own and nothing says
// that there are others at SNS: then its name is wrong.
func NoTopic(target string, own []string, amazon bool) error {
	name := target[strings.LastIndexByte(target, ':')+1:]
	if len(own) == 0 || amazon || slices.Contains(own, name) {
		return nil
	}
	return fmt.Errorf("no topic is called %q, there are %s; for topics of SNS, "+
		"[[actions]] has an entry of kind = \"sns\"", name, strings.Join(own, ", "))
}

// publishElsewhere publishes to topics of SNS.
func publishElsewhere(o *Options) do {
	topics := newClients(o, "sns", sns.New)
	return func(ctx context.Context, ds deliveries) []error {
		most := sns.MaxMessages
		if !sns.Batches(ds[0].Parameter("targetArn")) {
			most = 1
		}
		return runs(ds, inGroups(ds, "targetArn"), most, sns.MaxBytes, func(run deliveries) []error {
			target := run[0].Parameter("targetArn")
			c, err := topics.in(ctx, arnRegion(target))
			if err != nil {
				return each(len(run), err)
			}
			return apart(run, func(run deliveries) []error {
				ms := make([]sns.Message, len(run))
				for i, d := range run {
					ms[i] = sns.Message{Text: string(d.Data), JSON: d.Parameter("messageFormat") == "JSON"}
					if sqs.IsFIFO(target) {
						ms[i].Group, ms[i].ID = group(d), d.ID
					}
				}
				return c.Publish(ctx, target, ms)
			})
		})
	}
}

// param is the key of deliveries that go to the same target: what they act on.
func param(name string) func(*action.Delivery) string {
	return func(d *action.Delivery) string { return d.Parameter(name) }
}

// inGroups is the key of deliveries that one request to a queue or topic may have. Of
// FIFO ones it has no group twice: what a part of a request fails for, a later part of
// the group would overtake.
func inGroups(ds deliveries, target string) func(*action.Delivery) string {
	keys, requests, seen := make(map[*action.Delivery]string, len(ds)), 0, map[string]bool{}
	for _, d := range ds {
		to := d.Parameter(target)
		keys[d] = to
		if sqs.IsFIFO(to) {
			of := to + "\n" + group(d)
			if seen[of] {
				clear(seen)
				requests++
			}
			seen[of] = true
			keys[d] = to + "\n" + strconv.Itoa(requests)
		}
	}
	return func(d *action.Delivery) string { return keys[d] }
}

// groupForm are the characters of a MessageGroupId.
var groupForm = regexp.MustCompile("^[a-zA-Z0-9!\"#$%&'()*+,./:;<=>?@\\[\\\\\\]^_`{|}~-]{1,128}$")

// group keeps the order of messages of one topic in a FIFO queue. A topic that is
// no group's name is hashed.
func group(d *action.Delivery) string {
	if groupForm.MatchString(d.Topic) {
		return d.Topic
	}
	sum := sha256.Sum256([]byte(d.Topic))
	return hex.EncodeToString(sum[:])
}

// arnRegion is the region in an ARN, "" if there is none.
func arnRegion(text string) string {
	n, _ := arn.Parse(text)
	return n.Region
}

// queueHost has the region of Amazon's queues.
var queueHost = regexp.MustCompile(`^sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$`)

// queueRegion is the region of a queue of Amazon's, "" of any other's: the host of
// its URL is not where requests go.
func queueRegion(queue string) string {
	u, err := url.Parse(queue)
	if err != nil {
		return ""
	}
	if m := queueHost.FindStringSubmatch(u.Hostname()); m != nil {
		return m[1]
	}
	return ""
}
