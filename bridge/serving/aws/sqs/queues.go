package sqs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/queue"
)

// An attribute of a queue: how its text is read into a configuration, and written.
type attribute struct {
	set func(c *queue.Config, value string) error
	get func(c *queue.Config, x *service, r *wire.Request) string
}

// attributes are those of queues that can be set; a text of "" is not written.
var attributes = map[string]attribute{
	"VisibilityTimeout":             inSeconds(func(c *queue.Config) *time.Duration { return &c.VisibilityTimeout }),
	"MessageRetentionPeriod":        inSeconds(func(c *queue.Config) *time.Duration { return &c.Retention }),
	"DelaySeconds":                  inSeconds(func(c *queue.Config) *time.Duration { return &c.Delay }),
	"ReceiveMessageWaitTimeSeconds": inSeconds(func(c *queue.Config) *time.Duration { return &c.Wait }),
	"MaximumMessageSize": {
		func(c *queue.Config, value string) (err error) { c.MaxMessage, err = strconv.Atoi(value); return err },
		func(c *queue.Config, _ *service, _ *wire.Request) string { return strconv.Itoa(c.MaxMessage) },
	},
	"ContentBasedDeduplication": {
		func(c *queue.Config, value string) (err error) {
			c.ContentDedup, err = strconv.ParseBool(value)
			return err
		},
		func(c *queue.Config, _ *service, _ *wire.Request) string {
			if !c.ContentDedup {
				return ""
			}
			return "true"
		},
	},
	"RedrivePolicy": {setRedrive, getRedrive},
	// What a queue is by its name, and what has no effect here.
	"FifoQueue":                    noEffect,
	"SqsManagedSseEnabled":         noEffect,
	"KmsMasterKeyId":               noEffect,
	"KmsDataKeyReusePeriodSeconds": noEffect,
	"DeduplicationScope":           noEffect,
	"FifoThroughputLimit":          noEffect,
}

// noEffect takes any value and answers none.
var noEffect = attribute{
	func(*queue.Config, string) error { return nil },
	func(*queue.Config, *service, *wire.Request) string { return "" },
}

func inSeconds(at func(*queue.Config) *time.Duration) attribute {
	return attribute{
		func(c *queue.Config, value string) error {
			n, err := strconv.ParseUint(value, 10, 31)
			*at(c) = time.Duration(n) * time.Second
			return err
		},
		func(c *queue.Config, _ *service, _ *wire.Request) string {
			return strconv.FormatInt(int64(*at(c)/time.Second), 10)
		},
	}
}

// A redrive is the value of RedrivePolicy. Clients write the number as a text, too.
type redrive struct {
	Target string      `json:"deadLetterTargetArn"`
	Most   json.Number `json:"maxReceiveCount"`
}

func setRedrive(c *queue.Config, value string) error {
	c.DeadLetter, c.MaxReceives = "", 0
	if value == "" {
		return nil
	}
	var p redrive
	if err := json.Unmarshal([]byte(value), &p); err != nil {
		return errors.New("want JSON with deadLetterTargetArn and maxReceiveCount")
	}
	n, err := strconv.Atoi(p.Most.String())
	c.DeadLetter, c.MaxReceives = nameOf(p.Target), n
	return err
}

func getRedrive(c *queue.Config, x *service, r *wire.Request) string {
	if c.DeadLetter == "" {
		return ""
	}
	text, _ := json.Marshal(redrive{x.arn(r.Region, c.DeadLetter), json.Number(strconv.Itoa(c.MaxReceives))})
	return string(text)
}

// apply sets attributes of a configuration.
func apply(c *queue.Config, values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		a, ok := attributes[name]
		if !ok {
			return wire.Errorf(http.StatusBadRequest, "InvalidAttributeName", "Unknown Attribute %.100s.", name)
		}
		if err := a.set(c, values[name]); err != nil {
			return wire.Errorf(http.StatusBadRequest, "InvalidAttributeValue",
				"Invalid value for the parameter %s: %v.", name, err)
		}
	}
	return nil
}

type createInput struct {
	QueueName  *string `aws:"required"`
	Attributes map[string]string
	Tags       map[string]string `json:"tags"`
}

func (in *createInput) subject() string { return *in.QueueName }

type urlOutput struct{ QueueUrl string }

func (x *service) create(r *wire.Request, in *createInput) (*urlOutput, error) {
	c := queue.Default()
	if err := apply(&c, in.Attributes); err != nil {
		return nil, err
	}
	if fifo, ok := in.Attributes["FifoQueue"]; ok && fifo != strconv.FormatBool(queue.FIFO(*in.QueueName)) {
		return nil, fmt.Errorf("%w: a FIFO queue is one whose name ends in .fifo", queue.ErrInvalid)
	}
	q, err := x.queues.Create(*in.QueueName, c)
	if err != nil {
		return nil, err
	}
	return &urlOutput{x.queueURL(r, q.Name())}, nil
}

type nameInput struct {
	QueueName              *string `aws:"required"`
	QueueOwnerAWSAccountId *string
}

func (in *nameInput) subject() string { return *in.QueueName }

func (x *service) url(r *wire.Request, in *nameInput) (*urlOutput, error) {
	q, err := x.queues.Get(*in.QueueName)
	if err != nil {
		return nil, err
	}
	return &urlOutput{x.queueURL(r, q.Name())}, nil
}

type listInput struct {
	QueueNamePrefix, NextToken *string
	MaxResults                 *int32 `aws:"min=1,max=1000"`
}

type listOutput struct {
	QueueUrls []string
	NextToken *string
}

func (x *service) list(r *wire.Request, in *listInput) (*listOutput, error) {
	names := x.queues.List(text(in.QueueNamePrefix))
	if after := text(in.NextToken); after != "" {
		names = slices.DeleteFunc(names, func(n string) bool { return n <= after })
	}
	out := &listOutput{}
	if most := 1000; len(names) > most || in.MaxResults != nil && len(names) > int(*in.MaxResults) {
		if in.MaxResults != nil {
			most = int(*in.MaxResults)
		}
		names = names[:most]
		out.NextToken = &names[most-1]
	}
	for _, n := range names {
		out.QueueUrls = append(out.QueueUrls, x.queueURL(r, n))
	}
	return out, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

type queueInput struct{ byURL }

func (x *service) delete(_ *wire.Request, in *queueInput) error { return x.queues.Delete(in.subject()) }

func (x *service) purge(r *wire.Request, in *queueInput) error {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return err
	}
	return q.Purge(r.Context())
}

type setInput struct {
	byURL
	Attributes map[string]string `aws:"required"`
}

func (x *service) setAttributes(_ *wire.Request, in *setInput) error {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return err
	}
	return x.queues.Configure(q.Name(), func(c *queue.Config) error { return apply(c, in.Attributes) })
}

type attributesInput struct {
	byURL
	AttributeNames []string
}

type attributesOutput struct{ Attributes map[string]string }

func (x *service) attributes(r *wire.Request, in *attributesInput) (*attributesOutput, error) {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return nil, err
	}
	counts, err := q.Counts()
	if err != nil {
		return nil, err
	}
	all := map[string]string{
		"QueueArn":                              x.arn(r.Region, q.Name()),
		"ApproximateNumberOfMessages":           strconv.Itoa(counts.Visible),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(counts.InFlight),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(counts.Delayed),
		"CreatedTimestamp":                      strconv.FormatInt(q.Created().Unix(), 10),
	}
	if queue.FIFO(q.Name()) {
		all["FifoQueue"] = "true"
	}
	c := q.Config()
	for name, a := range attributes {
		if v := a.get(&c, x, r); v != "" {
			all[name] = v
		}
	}
	if slices.Contains(in.AttributeNames, "All") {
		return &attributesOutput{all}, nil
	}
	out := &attributesOutput{map[string]string{}}
	for _, name := range in.AttributeNames {
		if v, ok := all[name]; ok {
			out.Attributes[name] = v
		}
	}
	return out, nil
}
