// Package sqs is the bridge's queues as AWS's SDKs speak Amazon SQS: the table of
// its operations, API version 2012-11-05, in JSON 1.0. What they do is speed/queue.
//
// Caveats:
//   - The query protocol, which SDKs spoke before the end of 2023, is not served.
//   - The attributes of messages that the service keeps say when a message was sent,
//     by whom, and how often it was received since the bridge started.
package sqs

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/queue"
)

const (
	maxBody  = 2 << 20 // a batch of 1 MiB, escaped, and what is around it
	maxCalls = 1024    // under way at once; most wait for a message
)

// A Service answers for the queues of one account.
type service struct {
	queues  *queue.Service
	account string
}

// Service serves s.
func Service(s *queue.Service, account string) *wire.Service {
	x := &service{s, account}
	return &wire.Service{
		Name:       "sqs",
		Signing:    []string{"sqs"},
		Protocol:   wire.JSON{Target: "AmazonSQS", Version: "1.0", Namespace: "com.amazonaws.sqs#"},
		MaxBody:    maxBody,
		Concurrent: maxCalls,
		Errors: []wire.Rule{
			wire.Say(queue.ErrNotFound, "QueueDoesNotExist", http.StatusBadRequest,
				"The specified queue does not exist."),
			wire.Is(queue.ErrExists, "QueueNameExists", http.StatusBadRequest),
			wire.Is(queue.ErrHandle, "ReceiptHandleIsInvalid", http.StatusBadRequest),
			wire.Is(queue.ErrInFlight, "OverLimit", http.StatusBadRequest),
			wire.Is(queue.ErrInvalid, "InvalidParameterValue", http.StatusBadRequest),
		},
		Operations: []wire.Operation{
			command(x, "ChangeMessageVisibility", x.changeVisibility),
			as("ChangeMessageVisibility", query(x, "ChangeMessageVisibilityBatch", x.changeVisibilityBatch)),
			changes(query(x, "CreateQueue", x.create)),
			command(x, "DeleteMessage", x.deleteMessage),
			as("DeleteMessage", query(x, "DeleteMessageBatch", x.deleteBatch)),
			changes(command(x, "DeleteQueue", x.delete)),
			query(x, "GetQueueAttributes", x.attributes),
			query(x, "GetQueueUrl", x.url),
			query(x, "ListQueues", x.list),
			changes(command(x, "PurgeQueue", x.purge)),
			query(x, "ReceiveMessage", x.receive),
			stores(query(x, "SendMessage", x.send)),
			stores(as("SendMessage", query(x, "SendMessageBatch", x.sendBatch))),
			changes(command(x, "SetQueueAttributes", x.setAttributes)),
		},
	}
}

// A subject is an input that names its queue.
type subject interface{ subject() string }

// about says what an operation's requests are about.
func (x *service) about(op wire.Operation) wire.Operation {
	op.Resource = func(r *wire.Request) string {
		if s, ok := r.Input.(subject); ok && s.subject() != "" {
			return x.arn(r.Region, s.subject())
		}
		return "*"
	}
	return op
}

// as is an operation that policies know by another's name: IAM has none of batches.
func as(action string, op wire.Operation) wire.Operation {
	op.Action = action
	return op
}

// changes is an operation that changes control; the audit log has what was asked for.
func changes(op wire.Operation) wire.Operation {
	op.Changes = true
	return op
}

// stores is an operation that puts data.
func stores(op wire.Operation) wire.Operation {
	op.Stores = true
	return op
}

func query[In, Out any](x *service, name string, f func(*wire.Request, *In) (*Out, error)) wire.Operation {
	return x.about(wire.Query(name, nil, f))
}

func command[In any](x *service, name string, f func(*wire.Request, *In) error) wire.Operation {
	return x.about(wire.Command(name, nil, f))
}

func (x *service) arn(region, name string) string {
	return arn.Of("sqs", region, x.account, name)
}

// byURL is the part of inputs that names a queue by its URL.
type byURL struct {
	QueueUrl *string `aws:"required"`
}

func (b *byURL) subject() string {
	if b.QueueUrl == nil {
		return ""
	}
	return nameOf(*b.QueueUrl)
}

// nameOf is the last part of a queue's URL; clients send names and ARNs as well.
func nameOf(text string) string {
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		text = u.Path
	}
	return text[strings.LastIndexAny(text, "/:")+1:]
}

func (x *service) queue(b *byURL) (*queue.Queue, error) { return x.queues.Get(b.subject()) }

// queueURL is where a queue is for who asks: the host that the request came to.
func (x *service) queueURL(r *wire.Request, name string) string {
	return r.Origin() + "/" + x.account + "/" + name
}

// seconds is a number of the API, or what stands for none.
func seconds(n *int32, none time.Duration) time.Duration {
	if n == nil {
		return none
	}
	return time.Duration(*n) * time.Second
}
