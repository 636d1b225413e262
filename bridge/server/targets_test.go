package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/queue"
)

// A rule's document is posted where egress lets it be, and becomes a message of a
// queue of the bridge; elsewhere its error action runs.
func TestTargets(t *testing.T) {
	posted := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posted <- r.URL.Path + " " + r.Header.Get("X-Site") + " " + string(body)
	}))
	defer srv.Close()
	cfg := configure(t)
	cfg.Egress.Allow = []string{srv.Listener.Addr().String()}
	declareFiles(t, cfg, map[string]string{
		"streams/a.json": `{"StreamName":"failures"}`,
		"rules/out.json": `{"sql":"SELECT n FROM 'dt/#'","awsIotSqlVersion":"2016-03-23","actions":[
		  {"http":{"url":"` + srv.URL + `/in/${topic(2)}","confirmationUrl":"` + srv.URL + `",
		    "headers":[{"key":"X-Site","value":"${topic(3)}"}]}},
		  {"sqs":{"queueUrl":"https://sqs.eu-central-1.amazonaws.com/123456789012/work"}},
		  {"http":{"url":"http://127.0.0.1:1/"}},
		  {"sqs":{"queueUrl":"none"}}],
		  "errorAction":{"kinesis":{"streamName":"failures","partitionKey":"k"}}}`,
	})
	b := start(t, cfg)
	q, err := b.queues.Create("work", queue.Default())
	if err != nil {
		t.Fatal(err)
	}
	b.connect(b.thing("dev", ""), "dev").publish("dt/dev/x", `{"n":1}`)
	select {
	case got := <-posted:
		if got != `/in/dev x {"n":1}` {
			t.Errorf("posted %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing was posted")
	}
	got, err := q.Receive(t.Context(), 10, time.Minute, 20*time.Second)
	if err != nil || len(got) != 1 || got[0].Body != `{"n":1}` || got[0].Sender != "rule/out" {
		t.Errorf("the queue has %+v, %v", got, err)
	}
	b.eventually("both failures", func() bool {
		all := strings.Join(b.documents("failures"), "\n")
		return strings.Contains(all, "egress refused") && strings.Contains(all, "QueueDoesNotExist")
	})
}
