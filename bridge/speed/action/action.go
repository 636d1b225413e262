// Package action is what a rule does with the document its statement made.
//
// Actions are of two families. Those whose target is a stream of our own log
// (kinesis, firehose) append to it in the same atomic commit that moves the
// rule worker's position: they happen once, whatever crashes. All others
// append a Delivery to the rule's outbox, a stream as well, in that commit; an
// Outbox drains it with retry, so that a slow or dead target holds neither
// devices nor other rules. A Sender of its kind calls the target. A Delivery
// carries everything that its target needs, its name included, so doing it
// again overwrites.
package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// ErrPermanent marks failures that a retry cannot mend.
var ErrPermanent = errors.New("permanent")

// Permanent makes an error one that is not tried again: it wraps ErrPermanent, too, and reads
// as before.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() []error { return []error{e.error, ErrPermanent} }

// A resourceError is an error of Stage, with what the action acts on as its templates
// made it.
type resourceError struct {
	resource string
	error
}

// Unwrap returns the error itself.
func (e *resourceError) Unwrap() error { return e.error }

// onResource is err with the name of what is acted on, as far as that is known.
func onResource(name string, err error) error {
	if err == nil || name == "" {
		return err
	}
	return &resourceError{name, err}
}

// FailedResource is what an action acted on when its Stage failed with err: after
// substitution, or as the rule has it where that did not come to it.
func FailedResource(t Target, err error) string {
	if e, ok := errors.AsType[*resourceError](err); ok {
		return e.resource
	}
	return t.Resource()
}

// An Input is one firing of one rule.
type Input struct {
	*iotsql.Input        // the message that fired it; templates are evaluated on it
	Doc           []byte // what the statement made of it
}

// A Target is one compiled action of a rule. Targets are immutable.
type Target interface {
	// Kind is the action's name in the topic rule document.
	Kind() string
	// Resource names what the action acts on as the rule has it, templates and all.
	Resource() string
	// Stage adds the action's effect to b. It fails if the effect can never
	// be had; nothing is staged then.
	Stage(ctx context.Context, b *streams.Batch, in *Input) error
	// Describe says what Stage would do: the parameters after substitution, as
	// far as they can be had, and Stage's error. It has no effect.
	Describe(ctx context.Context, in *Input) ([]Parameter, error)
	// Never says why the action fails whatever the message is: a parameter that no
	// template makes is one that its target would refuse; nil: it need not fail.
	Never() error
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
	// Remote says whether actions of a kind that the bridge serves itself (s3,
	// kinesis, firehose, iotAnalytics, sqs) call a service elsewhere instead.
	Remote(kind string) bool
	// Channel says why messages cannot be added to the channel of that name. One
	// that is not there is made if create is true, else it could be.
	Channel(name string, create bool) error
	// Takes says why an action could never be done as the bridge is configured. d has
	// its kind, and its parameters as far as no template makes them.
	Takes(d *Delivery) error
	// Queue has b send a message to the bridge's queue of that name when it is
	// committed. With no b it says whether the queue would take it.
	Queue(b *streams.Batch, name string, m *queue.Message) error
}

// Templates compiles an action parameter with ${…} substitutions.
type Templates func(text string) (*iotsql.Template, error)

// Compile reads one element of a topic rule's actions, such as
// {"kinesis":{"streamName":"s","partitionKey":"${topic(2)}","roleArn":"…"}}. slot names the action
// within its rule ("0", "1", …, "error"); template compiles a parameter, mostly
// iotsql.Statement.Template of the rule. roleArn is accepted and has no effect: a rule's rights are
// those of the bridge.
func Compile(doc json.RawMessage, rule, slot string, template Templates, c Catalog) (Target, error) {
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(doc, &kinds); err != nil {
		return nil, strictjson.Explain(doc, err)
	}
	if len(kinds) != 1 {
		return nil, fmt.Errorf("an action has exactly one member, this has %d", len(kinds))
	}
	for name, params := range kinds {
		k, ok := actions[name]
		if !ok {
			return nil, fmt.Errorf("action %q is not served; known are %s",
				name, strings.Join(slices.Sorted(maps.Keys(actions)), ", "))
		}
		p := parser{compile: template, catalog: c,
			outbox: outbox{rule: rule, stream: OutboxStream(rule, slot), catalog: c}}
		p.read(params, append(k.members, "roleArn")...)
		t := k.compile(&p)
		if err := errors.Join(p.errs...); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return t, nil
	}
	panic("unreachable")
}

// A kind of action: the members of its object, but for roleArn, and what makes
// a Target of them. What is wrong compile tells the parser.
type kind struct {
	members []string
	compile func(p *parser) Target
}

// actions are those that are served, by the name that the topic rule document
// has for them. Each has a file of about that name.
var actions = map[string]kind{
	"cloudwatchAlarm":  toAlarm.action(),
	"cloudwatchLogs":   toLogs.action(),
	"cloudwatchMetric": toMetric.action(),
	"dynamoDB":         toColumn.action(),
	"dynamoDBv2":       {[]string{"putItem"}, compileItem},
	"elasticsearch":    toSearch("elasticsearch").action(),
	"firehose":         {toDeliveryStream.names(), compileFirehose},
	"iotAnalytics":     {toChannel.names(), compileChannel},
	"http":             toWeb.action(),
	"kafka":            toKafka.action(),
	"kinesis":          {toKinesis.names(), compileKinesis},
	"lambda":           toFunction.action(),
	"openSearch":       toSearch("openSearch").action(),
	"postgres":         toRow.action(),
	"republish":        {[]string{"topic", "qos", "headers"}, compileRepublish},
	"s3":               {[]string{"bucketName", "key", "cannedAcl"}, compileS3},
	"salesforce":       toSalesforce.action(),
	"sns":              toNotice.action(),
	"sqs":              {toQueue.names(), compileQueue},
	"timestream":       toMeasures.action(),
	"stepFunctions":    toMachine.action(),
}
