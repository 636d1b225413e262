package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/action/send"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A message for a topic of the bridge is posted to its webhooks as SNS does and
// published by MQTT. A webhook that is away gets it later, and the others get it once;
// one that is refused, and a JSON message without default, run the error action.
func TestTopics(t *testing.T) {
	var mu sync.Mutex
	posted, away := map[string][]string{}, true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/later" && away {
			away = false
			w.WriteHeader(503)
			return
		}
		var n struct{ Type, MessageId, TopicArn, Message, Timestamp string }
		if json.Unmarshal(body, &n) != nil || n.Type != "Notification" || n.MessageId == "" || n.Timestamp == "" ||
			r.Header.Get("x-amz-sns-message-id") != n.MessageId || r.Header.Get("x-amz-sns-topic-arn") != n.TopicArn ||
			r.Header.Get("x-amz-sns-message-type") != "Notification" {
			t.Errorf("%v %s", r.Header, body)
		}
		posted[r.URL.Path] = append(posted[r.URL.Path], n.Message)
	}))
	defer srv.Close()
	cfg := configure(t)
	cfg.Egress.Allow = []string{srv.Listener.Addr().String()}
	cfg.Topics = []config.Topic{{Name: "alarms", Webhooks: []string{srv.URL + "/later", srv.URL + "/now"},
		MQTT: []string{"alerts/site"}}, {Name: "refused", Webhooks: []string{"http://127.0.0.1:1/"}}}
	rule := func(from, arn, format string) string {
		return `{"sql":"SELECT * FROM '` + from + `'","awsIotSqlVersion":"2016-03-23","actions":[{"sns":{
		  "targetArn":"arn:aws:sns:eu-west-1:000000000000:` + arn + `","messageFormat":"` + format + `"}}],
		  "errorAction":{"kinesis":{"streamName":"failures","partitionKey":"k"}}}`
	}
	declareFiles(t, cfg, map[string]string{
		"streams/a.json":     `{"StreamName":"failures"}`,
		"streams/b.json":     `{"StreamName":"seen"}`,
		"rules/raw.json":     rule("dt/dev/raw", "alarms", "RAW"),
		"rules/json.json":    rule("dt/dev/json", "alarms", "JSON"),
		"rules/refused.json": rule("dt/dev/raw", "refused", "RAW"),
		"rules/loop.json":    rule("alerts/site", "alarms", "RAW"),
		"rules/seen.json": `{"sql":"SELECT * FROM 'alerts/#'","awsIotSqlVersion":"2016-03-23",
		  "actions":[{"kinesis":{"streamName":"seen","partitionKey":"k"}}]}`,
	})
	b := start(t, cfg)
	c := b.connect(b.thing("dev", ""), "dev")
	count := func(path string) int { mu.Lock(); defer mu.Unlock(); return len(posted[path]) }
	c.publish("dt/dev/raw", `{"n":1}`)
	// The rule on what the topic publishes ends after ten times.
	b.eventually("all messages", func() bool { return count("/later") >= 11 && count("/now") >= 11 })
	b.eventually("two failures", func() bool {
		all := strings.Join(b.documents("failures"), "\n")
		return strings.Contains(all, "egress refused") && strings.Contains(all, "republished 10 times")
	})
	c.publish("dt/dev/json", `{"n":1}`)
	b.eventually("no default", func() bool {
		return strings.Contains(strings.Join(b.documents("failures"), "\n"), "text named default")
	})
	if n := count("/now"); n != 11 {
		t.Errorf("posted %d times, want the message and ten that were republished", n)
	}
	if seen := b.documents("seen"); len(seen) != 10 || seen[0] != `{"n":1}` {
		t.Errorf("by MQTT: %q", seen)
	}
	mu.Lock()
	defer mu.Unlock()
	if posted["/now"][0] != `{"n":1}` {
		t.Errorf("%q", posted["/now"])
	}
}

// What an earlier version left in the outbox of an action, where all subscribers of a topic
// had one, comes to each of them: those that are there do not wait for the one that is not.
func TestTopicsOfOneOutbox(t *testing.T) {
	var mu sync.Mutex
	posted, away := map[string][]string{}, true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/away" && away {
			w.WriteHeader(503)
			return
		}
		posted[r.URL.Path] = append(posted[r.URL.Path], string(body))
	}))
	defer srv.Close()
	cfg := configure(t)
	cfg.Egress.Allow = []string{srv.Listener.Addr().String()}
	cfg.Topics = []config.Topic{{Name: "alarms", Webhooks: []string{srv.URL + "/away", srv.URL + "/there"},
		Subscriptions: []config.Subscription{{Protocol: "sqs", Endpoint: "work", Raw: true}}}}
	const target = "arn:aws:sns:eu-west-1:000000000000:alarms"
	declareFiles(t, cfg, map[string]string{"rules/old.json": `{"sql":"SELECT * FROM 'dt/#'",
	  "awsIotSqlVersion":"2016-03-23","actions":[{"sns":{"targetArn":"` + target + `"}}]}`})
	b := start(t, cfg)
	if _, err := b.queues.Create("work", queue.Default()); err != nil {
		t.Fatal(err)
	}
	const n = 150 // more than went together then
	batch := b.store.NewBatch()
	for i := range n {
		d := &action.Delivery{Kind: "sns", Rule: "old", Name: target, ID: fmt.Sprint("id-", i), Hops: 1,
			Data: []byte(fmt.Sprint(i)), Parameters: []action.Parameter{{Name: "targetArn", Value: target},
				{Name: "messageFormat", Value: "RAW"}}}
		batch.Append(action.OutboxStream("old", "0"), 0, streams.Record{Data: d.Record()})
	}
	if err := b.store.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	all := func(path string) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(posted[path]) < n {
			return false
		}
		for i, body := range posted[path] {
			if !strings.Contains(body, fmt.Sprintf(`"MessageId":"id-%d"`, i)) {
				t.Errorf("%s: message %d is %s", path, i, body)
			}
		}
		return len(posted[path]) == n
	}
	b.eventually("those that are there", func() bool { return all("/there") })
	b = b.again(cfg)
	mu.Lock()
	away = false
	mu.Unlock()
	// Its outbox is there when the first message was handed on to it, which a restart may have come before.
	b.eventually("the outbox of the one that was away", func() bool {
		code, _ := b.do("POST", "/v1/outboxes/topic:alarms/"+send.NewSubscriber("http", srv.URL+"/away").ID+"/retry", "")
		return code == http.StatusNoContent || code == http.StatusOK
	})
	b.eventually("the one that was away", func() bool { return all("/away") })
	q, err := b.queues.Get("work")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; {
		got, err := q.Receive(t.Context(), 10, time.Hour, 0)
		if err != nil || len(got) == 0 {
			t.Fatal(i, got, err)
		}
		i += len(got)
	}
	if got, err := q.Receive(t.Context(), 10, time.Hour, 0); err != nil || len(got) != 0 || !all("/there") {
		t.Errorf("more than there were: %v, %v", got, err)
	}
}

// What could never be done as the bridge is configured is refused when the rule is made;
// a file that is there at the start is in force with what it can do.
func TestRulesThatCanOnlyFail(t *testing.T) {
	cfg := configure(t)
	cfg.Topics = []config.Topic{{Name: "alarms", MQTT: []string{"alerts/site"}}}
	rule := func(action string) string {
		return `{"sql":"SELECT * FROM 'dt/#'","awsIotSqlVersion":"2016-03-23","actions":[` + action + `]}`
	}
	typo := `{"sns":{"targetArn":"arn:aws:sns:eu-west-1:000000000000:alarmz"}}`
	declareFiles(t, cfg, map[string]string{"streams/a.json": `{"StreamName":"failures"}`,
		"rules/old.json": strings.TrimSuffix(rule(typo), "}") +
			`,"errorAction":{"kinesis":{"streamName":"failures","partitionKey":"k"}}}`})
	b := start(t, cfg)
	for action, want := range map[string]string{
		typo: `targetArn: no topic is called "alarmz", there are alarms`,
		`{"timestream":{"databaseName":"d","tableName":"t","dimensions":[{"name":"n","value":"v"}]}}`: "[postgres] url",
		`{"postgres":{"tableName":"t"}}`: "[postgres] url",
		`{"cloudwatchMetric":{"metricName":"t","metricNamespace":"go","metricUnit":"None","metricValue":"1"}}`: "" +
			"go_t is a name for metrics of the bridge itself",
	} {
		err := b.topicRules.Create(t.Context(), "new", []byte(rule(action)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", action, err, want)
		}
	}
	good := rule(strings.Replace(typo, "alarmz", "alarms", 1))
	if err := b.topicRules.Create(t.Context(), "new", []byte(good)); err != nil {
		t.Error(err)
	}
	b.connect(b.thing("dev", ""), "dev").publish("dt/dev/x", `{"n":1}`)
	b.eventually("the failure", func() bool {
		return strings.Contains(strings.Join(b.documents("failures"), "\n"), "no topic is called")
	})
}
