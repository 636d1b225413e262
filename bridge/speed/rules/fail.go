package rules

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A failure is one entry of the error action's document.
type failure struct {
	FailedAction   string `json:"failedAction"` // as actionNames has it; "" when evaluation failed
	FailedResource string `json:"failedResource"`
	ErrorMessage   string `json:"errorMessage"`
}

// actionNames are AWS's names of actions in error documents. The guide shows
// S3Action, HttpAction and LambdaAction (rule error handling), AWS's log entries
// RepublishAction and DynamoAction, other engines SqsAction and DynamoDBv2Action;
// the others follow their pattern.
var actionNames = map[string]string{
	"cloudwatchAlarm": "CloudwatchAlarmAction", "cloudwatchLogs": "CloudwatchLogsAction",
	"cloudwatchMetric": "CloudwatchMetricAction", "dynamoDB": "DynamoAction", "dynamoDBv2": "DynamoDBv2Action",
	"elasticsearch": "ElasticsearchAction", "firehose": "FirehoseAction", "http": "HttpAction",
	"iotAnalytics": "IotAnalyticsAction", "kafka": "KafkaAction", "kinesis": "KinesisAction", "lambda": "LambdaAction",
	"openSearch": "OpenSearchAction", "republish": "RepublishAction", "s3": "S3Action",
	"salesforce": "SalesforceAction", "sns": "SnsAction", "sqs": "SqsAction", "stepFunctions": "StepFunctionsAction",
	"timestream": "TimestreamAction",
}

// failure is that of an action. It has no secrets, neither in the log nor in the
// document, which goes to another target than the one that the secret is for.
func (e *Engine) failure(kind, resource string, err error) failure {
	name, ok := actionNames[kind]
	if !ok {
		name = kind
	}
	return failure{name, e.opts.Redact(resource), e.opts.Redact(err.Error())}
}

// logged are failures as they stand in the log, without what is behind the host of a URL.
func logged(failures []failure) []failure {
	out := slices.Clone(failures)
	for i := range out {
		out[i].FailedResource = post.Shown(out[i].FailedResource)
	}
	return out
}

// short is an error as it is kept.
func (e *Engine) short(err error) string { return short(e.opts.Redact(err.Error())) }

// logEvery is how often failures of one rule are logged, and the like.
const logEvery = 10 * time.Second

// fail stages r's error action with AWS's document; one for each rule and
// message, whatever number of actions failed. ran says that there is an error
// action, err why it could not be had.
//
// AWS runs the error action for actions only (rule error handling); here it
// also runs when evaluation fails, for else such a message left no trace but a
// count.
func (e *Engine) fail(ctx context.Context, b *streams.Batch, r *Rule, in *action.Input, failures []failure) (ran bool,
	err error) {
	defer func() {
		n, ok := mayLog(&r.count.loggedAt, &r.count.unlogged)
		if !ok {
			return
		}
		e.opts.Log.Warn("rule failed", "rule", r.Name, "topic", in.Topic, "trace", in.Trace.String(), "failures",
			logged(failures), "failed_since", n)
		if err != nil {
			e.opts.Log.Error("error action failed", "rule", r.Name, "action", r.onError.Kind(), "err",
				e.opts.Redact(err.Error()))
		}
	}()
	if r.onError == nil {
		return false, nil
	}
	client := in.ClientID
	if client == "" {
		client = "N/A" // a message that did not come by MQTT
	}
	doc, err := json.Marshal(struct {
		RuleName string    `json:"ruleName"`
		Topic    string    `json:"topic"`
		TraceID  string    `json:"cloudwatchTraceId"`
		ClientID string    `json:"clientId"`
		Base64   []byte    `json:"base64OriginalPayload"`
		Failures []failure `json:"failures"`
	}{r.Name, in.Topic, in.Trace.String(), client, in.Payload, failures})
	if err == nil {
		err = r.onError.Stage(ctx, b, &action.Input{Input: in.Input, Doc: doc})
	}
	return true, err
}

// mayLog says whether something that happens again and again is to be logged
// this time, and how often it happened since it was.
func mayLog(loggedAt, unlogged *atomic.Int64) (n int64, ok bool) {
	n = unlogged.Add(1)
	last, t := loggedAt.Load(), time.Now().UnixNano()
	// A clock that was set back must not silence what is to be told.
	if since := t - last; last != 0 && 0 <= since && since < int64(logEvery) || !loggedAt.CompareAndSwap(last, t) {
		return 0, false
	}
	unlogged.Add(-n)
	return n, true
}

// Fail stages the error action of d's rule, if it has one, after an outbox
// gave d up.
func (e *Engine) Fail(b *streams.Batch, d *action.Delivery, err error) {
	r := e.rules.Load().byName[d.Rule]
	if r == nil {
		return
	}
	trace, traced := message.ParseTrace(d.TraceID)
	in := &action.Input{Input: &iotsql.Input{Account: e.opts.Account, Rule: r.Name,
		Message: message.Message{Topic: d.Topic, Payload: d.Payload, ClientID: d.ClientID, Trace: trace, Time: d.Time,
			Hops: d.Hops}}}
	ctx, cancel := context.WithTimeout(context.Background(), failLimit)
	defer cancel()
	ran, why := e.fail(ctx, b, r, in, []failure{e.failure(d.Kind, d.Resource(), err)})
	if !ran {
		return
	}
	r.count.errorActions.Add(1)
	x := act{state: actCommitted, at: time.Now().UnixMilli()}
	n := r.slots[len(r.actions)]
	switch {
	case why != nil:
		x.state, x.reason = actRefused, e.short(why)
		n.failure.Add(1)
	case r.onError.Outbox() != "":
		x.state = actWaiting
	default:
		n.success.Add(1)
	}
	if traced {
		r.count.history.find(func(k *entry) bool { return k.trace == trace && len(k.acts) > len(k.rule.actions) },
			func(_ result, k *entry) { k.acts[len(k.rule.actions)] = x })
	}
}

// failLimit bounds what the parameters of an error action may ask outside.
const failLimit = 5 * time.Second
