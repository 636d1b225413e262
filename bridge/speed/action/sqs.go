package action

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// maxQueued is the most bytes that a message of SQS has (SQS quotas, since 2025).
const maxQueued = 1 << 20

// toQueue is the sqs action: the document becomes a message of a queue.
var toQueue = sentKind{
	name: "sqs",
	members: []member{
		{name: "queueUrl", required: true},
		{name: "useBase64", form: boolean, standard: "false"},
	},
	resource: "queueUrl",
	stage: func(d *Delivery) error {
		if d.Parameter("useBase64") == "true" {
			d.Data = base64.StdEncoding.AppendEncode(nil, d.Data)
		}
		if len(d.Data) == 0 {
			return fmt.Errorf("a message of no bytes, want 1 to %d", maxQueued)
		}
		if err := d.textData(maxQueued); err != nil {
			return err
		}
		for i, r := range string(d.Data) {
			// SQS takes the characters of XML 1.0 (SendMessage).
			if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
				return fmt.Errorf("character %U at byte %d, which SQS does not take; useBase64 does", r, i)
			}
		}
		return nil
	},
}

// toOwnQueue is the sqs action to a queue of the bridge's own: the message is sent
// by the commit that moves the rule's position.
type toOwnQueue struct{ *toSender }

func compileQueue(p *parser) Target {
	t := p.sent(&toQueue)
	if p.catalog != nil && p.catalog.Remote("sqs") {
		return t
	}
	return toOwnQueue{t}
}

// Outbox implements Target.
func (t toOwnQueue) Outbox() string { return "" }

func (t toOwnQueue) put(ctx context.Context, b *streams.Batch, in *Input) (*Delivery, error) {
	d, err := t.resolve(ctx, in)
	if err != nil {
		return d, err
	}
	name := d.Name[strings.LastIndexAny(d.Name, "/:")+1:]
	m := &queue.Message{ID: d.ID, Body: string(d.Data), Sender: "rule/" + d.Rule}
	if queue.FIFO(name) {
		m.DedupID, m.Group = d.ID, d.Topic
		if len(m.Group) > 128 {
			sum := sha256.Sum256([]byte(d.Topic))
			m.Group = hex.EncodeToString(sum[:])
		}
	}
	return d, t.catalog.Queue(b, name, m)
}

// Stage implements Target.
func (t toOwnQueue) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	d, err := t.put(ctx, b, in)
	return onResource(d.Name, something(err))
}

// Describe implements Target.
func (t toOwnQueue) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	d, err := t.put(ctx, nil, in)
	return d.Parameters, something(err)
}
