package faults

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// A cluster is OpenSearch.
type cluster struct {
	t   *testing.T
	ctx context.Context
	url string
}

// ask makes a request and returns the answer, which has a status below 300.
func (c *cluster) ask(method, path, body string) string {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		c.t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return string(text)
}

// documents are the records of an index, one document each.
func (c *cluster) documents(index string) func() []int {
	return func() []int {
		c.ask("POST", "/"+index+"/_refresh", "")
		return numbers(c.ask("GET", "/"+index+"/_search?size=10000", ""))
	}
}

// searchRows are those at OpenSearch.
func searchRows(t *testing.T, ctx context.Context) []*row {
	c := &cluster{t, ctx, counterpart.OpenSearch(t)}
	c.ask("GET", "/_cluster/health?wait_for_status=yellow&timeout=60s", "")
	for _, index := range []string{"streamed", "acted"} {
		c.ask("PUT", "/"+index, `{"settings":{"number_of_replicas":0,"number_of_shards":1}}`)
	}
	streamed, acted := &meter{}, &meter{}
	to := newWebGate(t, c.url, &lane{meter: acted, halve: halveBulk})
	return []*row{
		{name: "opensearch-delivery", once: true, meter: streamed, got: c.documents("streamed"),
			stream: fmt.Sprintf(`"AmazonopensearchserviceDestinationConfiguration":{"ClusterEndpoint":%q,
			  "IndexName":"streamed","IndexRotationPeriod":"NoRotation","RetryOptions":{"DurationInSeconds":WINDOW},%s,%s}`,
				newWebGate(t, c.url, &lane{meter: streamed, halve: halveBulk}), buffering,
				keeps("opensearch-delivery"))},
		{name: "openSearch", once: true, meter: acted, got: c.documents("acted"),
			action:   fmt.Sprintf(`{"openSearch":{"endpoint":%q,"index":"acted","type":"_doc","id":"${id}"}}`, to),
			settings: fmt.Sprintf("[[actions]]\nkind = \"openSearch\"\nauth = \"none\"\nendpoint_url = %q\n", to)},
	}
}

// A shownListener is at one address and tells of another, by which clients then come.
type shownListener struct {
	net.Listener
	shown net.Addr
}

// Addr implements net.Listener.
func (l *shownListener) Addr() net.Addr { return l.shown }

// kafkaRow is at kfake, franz-go's brokers in memory.
func kafkaRow(t *testing.T, ctx context.Context) *row {
	gate, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	behind, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	brokers, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "readings"),
		kfake.ListenFn(func(string, string) (net.Listener, error) {
			return &shownListener{behind, gate.Addr()}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(brokers.Close)
	m := &meter{}
	to := startLineGate(t, gate, behind.Addr().String(), func() protocol { return kafka{} }, m)
	reader, err := kgo.NewClient(kgo.SeedBrokers(to), kgo.ConsumeTopics("readings"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	var all []int
	return &row{name: "kafka", meter: m,
		action: fmt.Sprintf(`{"kafka":{"destinationArn":"arn:aws:iot:us-east-1:000000000000:ruledestination/vpc/x","topic":"readings",`+
			`"clientProperties":{"bootstrap.servers":%q,"security.protocol":"PLAINTEXT","acks":"all"}}}`, to),
		skip: map[string]string{halfTaken: "kfake takes a batch whole", "503": "no such answer", "429": "no such answer",
			"400": "no such answer", window: "no such answer"},
		got: func() []int {
			for {
				poll, cancel := context.WithTimeout(ctx, time.Second)
				fetched := reader.PollFetches(poll)
				cancel()
				if fetched.NumRecords() == 0 {
					return all
				}
				fetched.EachRecord(func(r *kgo.Record) { all = append(all, numbers(string(r.Value))...) })
			}
		}}
}
