package functions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/speed/queue"
)

// Objects keeps objects; the bridge's own store does.
type Objects interface {
	Put(ctx context.Context, bucket, key string, write func(io.Writer) error) error
}

// Queues has the bridge's own queues; *queue.Service does.
type Queues interface {
	Get(name string) (*queue.Queue, error)
}

// Destinations take the records of calls that nobody waited for, and are: a bucket of the
// bridge's own (arn:aws:s3:::BUCKET), a queue, or another function. Several goroutines may
// use them.
type Destinations struct {
	Caller          *Caller
	Objects         Objects
	Queues          Queues
	Region, Account string
}

// folder begins the keys of objects, which are AWS's.
const folder = "aws/lambda/async/"

// queueName is the name of a queue of the bridge; ok is false for other ARNs.
func (d *Destinations) queueName(to string) (name string, ok bool) {
	n, ok := arn.Parse(to)
	return n.Resource, ok && n.Service == "sqs" && n.Region == d.Region && n.Account == d.Account
}

// Right says which action on which resource a record needs. An error says why there is
// no such destination. Those of calls that went well are no buckets, as with AWS.
func (d *Destinations) Right(to string, success bool) (action, resource string, err error) {
	if bucket, ok := arn.CutBucket(to); ok {
		if success {
			return "", "", errors.New("a bucket takes the records of calls that failed only")
		}
		return "s3:PutObject", arn.Bucket(bucket + "/" + folder + "*"), nil
	}
	if name, ok := d.queueName(to); ok {
		if queue.FIFO(name) {
			return "", "", errors.New("a FIFO queue takes no records of calls, want a standard queue")
		}
		if _, err := d.Queues.Get(name); err != nil {
			return "", "", err
		}
		return "sqs:SendMessage", to, nil
	}
	if d.Caller.HasFunction(to) {
		return "lambda:InvokeFunction", to, nil
	}
	return "", "", errors.New("want the ARN of a function, a standard queue or, for failures, a bucket of this bridge")
}

// Send brings a record to a destination and returns when it is durable there:
// lambda.ErrTooLarge and lambda.ErrNotFound will not go away. It may be called again with the
// same id: an object has the same key on a day, a queue gets another message. depth is how
// many calls of functions led to the record: a function is not called after lambda.MaxDepth.
func (d *Destinations) Send(ctx context.Context, to, id string, depth int, record []byte) error {
	if bucket, ok := arn.CutBucket(to); ok {
		key := folder + time.Now().UTC().Format("2006/01/02/") + id
		return d.Objects.Put(ctx, bucket, key, func(w io.Writer) error {
			_, err := w.Write(record)
			return err
		})
	}
	if name, ok := d.queueName(to); ok {
		return d.enqueue(ctx, name, record)
	}
	return d.Caller.queue(ctx, to, lambda.Call{Payload: record, Depth: depth})
}

// enqueue sends a record as a message.
func (d *Destinations) enqueue(ctx context.Context, name string, record []byte) error {
	q, err := d.Queues.Get(name)
	if err != nil {
		return fmt.Errorf("%w: %w", lambda.ErrNotFound, err)
	}
	text := message(record)
	if most := q.Config().MaxMessage; len(text) > most {
		return fmt.Errorf("%w: %d bytes, queue %s takes %d", lambda.ErrTooLarge, len(text), name, most)
	}
	return q.Send(ctx, []*queue.Message{{Body: text, Sender: "lambda"}})[0]
}

// forbidden are characters that JSON has and a message may not, and how JSON writes them else.
var forbidden = strings.NewReplacer("\uFFFE", `\ufffe`, "\uFFFF", `\uffff`)

// message is a record, JSON, in characters that a message may have. What is no UTF-8 is
// replaced as readers of JSON do.
func message(record []byte) string {
	text := string(record)
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	return forbidden.Replace(text)
}
