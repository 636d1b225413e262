// Package action is what a rule does with the document its statement made.
//
// Actions are of two families. Those whose target is a stream of our own log
// (kinesis, firehose) append to it in the same atomic commit that moves the
// rule worker's position: they happen once, whatever crashes. All others
// (republish, s3) append a Delivery to the rule's outbox, a stream as well, in
// that commit; an Outbox drains it with retry, so that a slow or dead target
// holds neither devices nor other rules. A Delivery carries everything that
// its target needs, its name included, so doing it again overwrites.
package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// ErrPermanent marks failures that a retry cannot mend.
var ErrPermanent = errors.New("permanent")

// An Input is one firing of one rule.
type Input struct {
	*iotsql.Input        // the message that fired it; templates are evaluated on it
	Doc           []byte // what the statement made of it
}

// A Target is one compiled action of a rule. Targets are immutable.
type Target interface {
	// Kind is the action's name in the topic rule document.
	Kind() string
	// Resource names what the action acts on, for error documents and logs.
	Resource() string
	// Stage adds the action's effect to b. It fails if the effect can never
	// be had; nothing is staged then.
	Stage(ctx context.Context, b *streams.Batch, in *Input) error
	// Describe says what Stage would do: the parameters after substitution, as
	// far as they can be had, and Stage's error. It has no effect.
	Describe(ctx context.Context, in *Input) ([]Parameter, error)
	// Outbox is the stream that Stage writes Deliveries to, or "".
	Outbox() string
}

// A Parameter of an action, after substitution; named as in the topic rule
// document, or "shard" of a stream.
type Parameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Catalog is what compiled actions look their targets up in when they run.
type Catalog interface {
	// Shard returns the shard of a user's stream that is open for a hash key;
	// ok is false if there is no stream of that name.
	Shard(stream string, h streams.Hash) (shard int, ok bool)
	// HasDeliveryStream says whether there is a delivery stream of that name.
	HasDeliveryStream(name string) bool
	// Room returns an error when so much waits in an outbox, or in the buffer
	// of a delivery stream, that no more may be added.
	Room(stream string) error
}

// Templates compiles an action parameter with ${…} substitutions.
type Templates func(text string) (*iotsql.Template, error)

// Compile reads one element of a topic rule's actions, such as
// {"kinesis":{"streamName":"s","partitionKey":"${topic(2)}","roleArn":"…"}}.
// slot names the action within its rule ("0", "1", …, "error"); template
// compiles a parameter, mostly iotsql.Statement.Template of the rule. roleArn is accepted and has no effect: a rule's rights
// are those of the bridge.
func Compile(doc json.RawMessage, rule, slot string, template Templates, c Catalog) (Target, error) {
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(doc, &kinds); err != nil {
		return nil, strictjson.Explain(doc, err)
	}
	if len(kinds) != 1 {
		return nil, fmt.Errorf("an action has exactly one member, this has %d", len(kinds))
	}
	for kind, params := range kinds {
		p := parser{compile: template}
		out := outbox{rule: rule, stream: OutboxStream(rule, slot), catalog: c}
		var t Target
		switch kind {
		case "kinesis":
			p.read(params, "streamName", "partitionKey", "roleArn")
			t = &toStream{streamName: p.template("streamName", ""), key: p.template("partitionKey", "${newuuid()}"), catalog: c, resource: p.raw("streamName")}
		case "firehose":
			p.read(params, "deliveryStreamName", "separator", "roleArn", "batchMode")
			t = &toFirehose{name: p.template("deliveryStreamName", ""), separator: p.oneOf("separator", "", "\n", "\t", "\r\n", ","), catalog: c, resource: p.raw("deliveryStreamName")}
		case "s3":
			p.read(params, "bucketName", "key", "cannedAcl", "roleArn")
			bucket := p.text("bucketName")
			if err := sink.CheckBucket(bucket); bucket != "" && err != nil {
				p.bad("bucketName: %w", err)
			}
			t = &toObject{outbox: out, bucket: bucket, key: p.template("key", ""), resource: bucket}
		case "republish":
			p.read(params, "topic", "qos", "headers", "roleArn")
			t = &toTopic{outbox: out, topic: p.topicTemplate("topic"), qos: p.number("qos", 0, 1), headers: p.headers(), resource: p.raw("topic")}
		default:
			return nil, fmt.Errorf("action %q is not served; known are firehose, kinesis, republish, s3", kind)
		}
		if err := errors.Join(p.errs...); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
		return t, nil
	}
	panic("unreachable")
}

// A parser reads action parameters and gathers what is wrong with them.
type parser struct {
	compile Templates
	params  map[string]json.RawMessage
	errs    []error
}

func (p *parser) bad(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *parser) read(doc json.RawMessage, known ...string) {
	if err := json.Unmarshal(doc, &p.params); err != nil {
		p.bad("%w", strictjson.Explain(doc, err))
	}
	for name := range p.params {
		if !slices.Contains(known, name) {
			p.bad("%s: unknown member; known are %s", name, strings.Join(known, ", "))
		}
	}
}

func (p *parser) text(name string) string {
	var s string
	if raw, ok := p.params[name]; !ok {
		p.bad("%s: missing", name)
	} else if err := json.Unmarshal(raw, &s); err != nil || s == "" {
		p.bad("%s: want a text", name)
	}
	return s
}

// raw returns a text as it stands in the document, for people to read.
func (p *parser) raw(name string) string {
	var s string
	_ = json.Unmarshal(p.params[name], &s) // what is wrong with it was said by text
	return s
}

func (p *parser) template(name, standard string) *iotsql.Template {
	text := standard
	if _, ok := p.params[name]; ok || standard == "" {
		text = p.text(name)
	}
	t, err := p.compile(text)
	if err != nil {
		p.bad("%s: %w", name, err)
	}
	return t
}

// topicTemplate undoes the doubled $ with which a republish topic writes a
// reserved topic ($$aws/…).
func (p *parser) topicTemplate(name string) *iotsql.Template {
	var s string
	if raw := p.params[name]; json.Unmarshal(raw, &s) == nil && strings.HasPrefix(s, "$$") {
		p.params[name], _ = json.Marshal(s[1:])
	}
	return p.template(name, "")
}

func (p *parser) oneOf(name string, allowed ...string) string {
	if _, ok := p.params[name]; !ok {
		return ""
	}
	var s string
	if err := json.Unmarshal(p.params[name], &s); err != nil || !slices.Contains(allowed, s) {
		p.bad("%s: want one of %q", name, allowed)
	}
	return s
}

func (p *parser) number(name string, least, most int) int {
	n := least
	if raw, ok := p.params[name]; ok {
		if err := json.Unmarshal(raw, &n); err != nil || n < least || n > most {
			p.bad("%s: want %d to %d", name, least, most)
		}
	}
	return n
}

// toStream is the kinesis action.
type toStream struct {
	streamName, key *iotsql.Template
	catalog         Catalog
	resource        string
}

func (t *toStream) Kind() string     { return "kinesis" }
func (t *toStream) Resource() string { return t.resource }
func (t *toStream) Outbox() string   { return "" }

// A put is what the kinesis action makes of one message.
type put struct {
	stream, key string
	hash        streams.Hash
	shard       int // as things are now
}

func (t *toStream) resolve(ctx context.Context, in *Input) (p put, err error) {
	if p.stream, err = t.streamName.Text(ctx, in.Input); err != nil {
		return p, err
	}
	if p.key, err = t.key.Text(ctx, in.Input); err != nil {
		return p, err
	}
	if len(p.key) == 0 || len(p.key) > 256 { // PutRecord: 1 to 256 characters
		return p, fmt.Errorf("partition key of %d bytes, want 1 to 256", len(p.key))
	}
	p.hash = streams.HashOf(p.key)
	var ok bool
	if p.shard, ok = t.catalog.Shard(p.stream, p.hash); !ok {
		return p, fmt.Errorf("stream %s does not exist", p.stream)
	}
	if len(in.Doc) > streams.MaxData { // it would fail the whole commit, for ever
		return p, fmt.Errorf("record of %d bytes, want at most %d", len(in.Doc), streams.MaxData)
	}
	return p, nil
}

func (t *toStream) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	p, err := t.resolve(ctx, in)
	if err == nil {
		b.Put(p.stream, p.hash, streams.Record{Key: p.key, Data: in.Doc})
	}
	return err
}

func (t *toStream) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	p, err := t.resolve(ctx, in)
	all := []Parameter{{"streamName", p.stream}, {"partitionKey", p.key}}
	if err == nil {
		all = append(all, Parameter{"shard", strconv.Itoa(p.shard)})
	}
	return all, err
}

// toFirehose is the firehose action.
type toFirehose struct {
	name      *iotsql.Template
	separator string
	catalog   Catalog
	resource  string
}

func (t *toFirehose) Kind() string     { return "firehose" }
func (t *toFirehose) Resource() string { return t.resource }
func (t *toFirehose) Outbox() string   { return "" }

func (t *toFirehose) resolve(ctx context.Context, in *Input) (name string, data []byte, err error) {
	if name, err = t.name.Text(ctx, in.Input); err != nil {
		return "", nil, err
	}
	if !t.catalog.HasDeliveryStream(name) {
		return name, nil, fmt.Errorf("delivery stream %s does not exist, or has a data stream as its source", name)
	}
	if err := t.catalog.Room(firehose.StreamName(name)); err != nil {
		return name, nil, err
	}
	data = in.Doc
	if t.separator != "" {
		data = append(slices.Clip(data), t.separator...)
	}
	if len(data) > firehose.MaxRecord {
		return name, nil, fmt.Errorf("record of %d bytes, want at most %d", len(data), firehose.MaxRecord)
	}
	return name, data, nil
}

func (t *toFirehose) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	name, data, err := t.resolve(ctx, in)
	if err == nil {
		b.Append(firehose.StreamName(name), 0, streams.Record{Data: data})
	}
	return err
}

func (t *toFirehose) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	name, _, err := t.resolve(ctx, in)
	return []Parameter{{"deliveryStreamName", name}}, err
}
