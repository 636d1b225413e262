package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/queue"
)

// A longRequest is one that lasts, by a connection of its own.
type longRequest struct {
	name, service, target, method, path, body string

	answers chan<- string   // gets the status when the answer begins; nil: nobody asks
	read    <-chan struct{} // what the answer has is read when it is closed; nil: at once
}

// begin sends a request and returns what its answer is when it has ended.
func (b *bridge) begin(k sigv4test.Key, l longRequest) (ended chan string) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, l.method, "https://"+b.https.Addr().String()+l.path,
		strings.NewReader(l.body))
	if err != nil {
		b.t.Fatal(err)
	}
	if l.target != "" {
		req.Header.Set("X-Amz-Target", l.target)
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	}
	if l.service == "sqs" {
		req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	}
	if l.service == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	}
	req.Host = req.URL.Host
	sigv4test.Sign(req, []byte(l.body), k, "eu-local-1", l.service, time.Now())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}}
	b.t.Cleanup(tr.CloseIdleConnections)
	ended = make(chan string, 1)
	go func() {
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			ended <- err.Error()
			return
		}
		defer resp.Body.Close()
		if l.answers != nil {
			l.answers <- resp.Status
		}
		if l.read != nil {
			select {
			case <-l.read:
			case <-ctx.Done():
			}
		}
		var all bytes.Buffer
		if _, err = io.Copy(&all, resp.Body); err != nil {
			all.Reset()
			all.WriteString("broken off")
		}
		ended <- resp.Status + " " + all.String()[:min(all.Len(), 600)]
	}()
	return ended
}

// consumer registers a consumer of a stream and returns its ARN.
func (b *bridge) consumer(stream, name string) string {
	b.t.Helper()
	resp, text, err := b.askAs(b.key(), speaking(true, false, false), "https", "RegisterStreamConsumer",
		`{"StreamARN":"arn:aws:kinesis:eu-local-1:000000000000:stream/`+stream+`","ConsumerName":"`+name+`"}`)
	if err != nil || resp.StatusCode != 200 {
		b.t.Fatal(err, text)
	}
	_, arn, _ := strings.Cut(text, `"ConsumerARN":"`)
	arn, _, _ = strings.Cut(arn, `"`)
	return arn
}

// What lasts ends within seconds of the right to it: subscriptions, long polls and
// large answers, whatever took the right away.
func TestLongRequestsEnd(t *testing.T) {
	b := start(t, configure(t))
	b.must("POST", "/v1/streams", `{"name":"s","shards":1}`, nil)
	if _, err := b.queues.Create("work", queue.Default()); err != nil {
		t.Fatal(err)
	}
	if err := b.objects.Put(t.Context(), "big", "object", func(w io.Writer) error {
		_, err := w.Write(make([]byte, 40<<20))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	requests := func(consumer string) []longRequest {
		return []longRequest{
			{name: "a subscription", service: "kinesis", target: "Kinesis_20131202.SubscribeToShard", method: "POST",
				path: "/", body: `{"ConsumerARN":"` + consumer +
					`","ShardId":"shardId-000000000000","StartingPosition":{"Type":"LATEST"}}`},
			{name: "a long poll", service: "sqs", target: "AmazonSQS.ReceiveMessage", method: "POST", path: "/",
				body: `{"QueueUrl":"https://` + b.https.Addr().String() + `/000000000000/work","WaitTimeSeconds":20}`},
			{name: "an object", service: "s3", method: "GET", path: "/big/object"},
		}
	}
	type under struct {
		name, service  string
		answers, ended <-chan string
	}
	var begun []under
	var ends []func()
	read := make(chan struct{})
	begin := func(name string) (user string, k sigv4test.Key) {
		user = strings.NewReplacer(" ", "-", "'", "").Replace(name)
		k = b.user(user, people.Admin)
		for _, l := range requests(b.consumer("s", user)) {
			answers := make(chan string, 1)
			if l.answers = answers; l.service == "s3" {
				l.read = read
			}
			begun = append(begun, under{name + ": " + l.name, l.service, answers, b.begin(k, l)})
		}
		return user, k
	}
	begin("nothing is taken away")
	const doc = `{"Statement":{"Effect":"Allow","Action":["kinesis:*","sqs:*","s3:*"],"Resource":"*"}}`
	for _, c := range []struct {
		name string
		end  func(user, key string)
	}{
		{"the user is revoked", func(user, _ string) { b.must("DELETE", "/v1/users/"+user, "", nil) }},
		{"the key is revoked", func(_, key string) { b.must("DELETE", "/v1/access-keys/"+key, "", nil) }},
		{"the key is inactive", func(_, key string) {
			b.must("POST", "/v1/access-keys/"+key, `{"status":"INACTIVE"}`, nil)
		}},
		{"the role is taken away", func(user, _ string) { b.must("PUT", "/v1/users/"+user, `{"roles":[]}`, nil) }},
		{"a policy denies it", func(user, _ string) {
			b.must("PUT", "/v1/users/"+user, `{"roles":["admin"],"policies":{"p":`+
				strings.Replace(doc, "Allow", "Deny", 1)+`}}`, nil)
		}},
		{"the key's time is over", func(_, key string) {
			b.must("POST", "/v1/access-keys/"+key+"/rotate", `{"after_ns":1000000000}`, nil)
		}},
	} {
		user, k := begin(c.name)
		ends = append(ends, func() { c.end(user, k.ID) })
	}
	for _, u := range begun {
		if u.service == "sqs" { // its answer begins when it ends
			continue
		}
		select {
		case got := <-u.answers:
			if !strings.HasPrefix(got, "200") {
				t.Fatalf("%s: %s", u.name, got)
			}
		case got := <-u.ended:
			t.Fatalf("%s: %.300s", u.name, got)
		}
	}
	for _, end := range ends {
		end()
	}
	// Who does not read is broken off too, and reads what is under way only then. The
	// answer had begun, so that it counts as OK.
	want := fmt.Sprintf("tidemill_aws_requests_total{code=\"OK\",operation=\"GetObject\"} %d\n", len(ends))
	b.eventually("the objects are broken off", func() bool { return strings.Contains(b.metrics(), want) })
	close(read)
	for _, u := range begun {
		if strings.HasPrefix(u.name, "nothing") { // which has been asked of as often as the others
			continue
		}
		want := "AccessDenied"
		if u.service == "s3" {
			want = "broken off"
		}
		select {
		case got := <-u.ended:
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q", u.name, got)
			}
		case <-time.After(patience):
			t.Errorf("%s goes on", u.name)
		}
	}
	for _, u := range begun[:2] { // the object may be read to its end by now
		select {
		case got := <-u.ended:
			t.Errorf("%s has ended: %.300s", u.name, got)
		default:
		}
	}
	if got := <-begun[2].ended; !strings.HasPrefix(got, "200") {
		t.Errorf("%s: %.300s", begun[2].name, got)
	}
}
