package send

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/kafka"
)

func TestKept(t *testing.T) {
	k := newKept[int](2)
	k.put("a", 1)
	k.put("b", 2)
	k.get("a")
	k.put("c", 3)
	if _, ok := k.get("b"); ok || len(k.of) != 2 || !slices.Equal(k.order, []string{"a", "c"}) {
		t.Errorf("%v %v", k.of, k.order)
	}
	if v, ok := k.dropOldest(func(v int) bool { return v > 1 }); !ok || v != 3 || k.full() {
		t.Errorf("%d %v, left %v", v, ok, k.of)
	}
	if _, ok := k.dropOldest(func(v int) bool { return v > 1 }); ok {
		t.Error("dropped what may not go")
	}
}

// A setup of a producer has the place of one that nobody uses; where all are in
// use, there may be one later.
func TestManyClusters(t *testing.T) {
	b := addKafka(&Options{}, func(string, int, int, do) {})
	defer b.close()
	setup := func(i int) (string, kafka.Properties) {
		at := fmt.Sprintf("127.0.0.1:%d", i+1)
		return at, kafka.Properties{"bootstrap.servers": at, "security.protocol": "PLAINTEXT"}
	}
	for i := range 3 * maxClusters {
		p, err := b.acquire(setup(i))
		if err != nil {
			t.Fatalf("setup %d: %v", i, err)
		}
		b.release(p)
	}
	if n := len(b.open.of); n != maxClusters {
		t.Errorf("%d are open", n)
	}
	var used []*producer
	for i := range maxClusters {
		p, err := b.acquire(setup(i))
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, p)
	}
	if _, err := b.acquire(setup(maxClusters)); err == nil || permanent(final(err)) {
		t.Errorf("all in use: %v", err)
	}
	b.release(used[3])
	if _, err := b.acquire(setup(maxClusters)); err != nil {
		t.Error(err)
	}
	if again, err := b.acquire(setup(0)); err != nil || again != used[0] {
		t.Errorf("one that is in use went: %v", err)
	}
}

// However many regions deliveries name, each has its client.
func TestManyRegions(t *testing.T) {
	newSet(t, &fake{}) // the environment
	c := newClients(&Options{Places: map[string]awsapi.Place{}}, "sns", func(c aws.Config) string { return c.Region })
	for i := range maxClients + 3 {
		if got, err := c.in(t.Context(), fmt.Sprintf("r-%d", i)); err != nil || got != fmt.Sprintf("r-%d", i) {
			t.Fatalf("%d: %q %v", i, got, err)
		}
	}
	if len(c.made.of) != maxClients {
		t.Errorf("%d are kept", len(c.made.of))
	}
}

// A search that refuses who asks may have its password set right: the backlog waits.
// An http action gives up, as AWS's does.
func TestWhoIsRefused(t *testing.T) {
	for _, status := range []string{"401", "403"} {
		f := &fake{answers: []string{status + " {}"}}
		set := newSet(t, f).Senders()
		document := func(id string) *action.Delivery {
			return delivery("openSearch", `{}`, "endpoint", "http://search.test", "index", "i", "id", id)
		}
		if got := said(set["openSearch"].Send(t.Context(), []*action.Delivery{document("1")})); got != "again" {
			t.Errorf("one document, %s: %s", status, got)
		}
		if got := said(set["openSearch"].Send(t.Context(), []*action.Delivery{document("1"), document("2")})); got !=
			"again again" || len(f.bodies) != 2 {
			t.Errorf("two documents, %s: %s after %d requests", status, got, len(f.bodies))
		}
		if status == "403" {
			f.answers = []string{`403 {"code":"AccessDenied"}`}
			if got := said(set["openSearch"].Send(t.Context(), []*action.Delivery{document("1")})); got != "never" {
				t.Errorf("no right: %s", got)
			}
		}
		if got := said(set["http"].Send(t.Context(), []*action.Delivery{delivery("http", `{}`, "url",
			"http://hook.test")})); got != "never" {
			t.Errorf("http, %s: %s", status, got)
		}
	}
}

// keys collects Idempotency-Keys, and says that it is too busy.
type keys struct{ got []string }

func (k *keys) RoundTrip(r *http.Request) (*http.Response, error) {
	k.got = append(k.got, r.Header.Get("Idempotency-Key"))
	return &http.Response{StatusCode: 503, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader(""))}, nil
}

// A batch has the key of all that is in it, so that no receiver drops what a later
// one has more; after a restart it may have more.
func TestKeyOfABatch(t *testing.T) {
	k := &keys{}
	posted := func(data string) *action.Delivery {
		return delivery("http", data, "url", "http://hook.test", "enableBatching", "true",
			"batchConfig/maxBatchSize", "10", "batchConfig/maxBatchSizeBytes", "10000")
	}
	one, two, three := posted("1"), posted("2"), posted("3")
	for _, ds := range [][]*action.Delivery{{one}, {one, two}, {one, two, three}, {one, two}} {
		newSet(t, k).Senders()["http"].Send(t.Context(), ds) // a new Set: after a restart
	}
	if k.got[0] != one.ID || k.got[1] != k.got[3] || k.got[1] == one.ID || k.got[1] == k.got[2] || len(k.got[1]) != 64 {
		t.Errorf("%q", k.got)
	}
}

// Batches that nobody sends again are forgotten, the oldest first, and newer ones
// remembered.
func TestSizesAreBounded(t *testing.T) {
	w := &web{o: &Options{HTTPTries: 3}, sizes: newKept[int](2), tries: newKept[int](2)}
	for _, id := range []string{"a", "b", "c"} {
		w.note(id, 5, io.EOF)
	}
	if len(w.sizes.of) != 2 || w.sizes.of["c"] != 5 || w.sizes.of["a"] != 0 {
		t.Errorf("%v", w.sizes.of)
	}
	w.note("c", 5, nil)
	if len(w.sizes.of) != 1 {
		t.Errorf("%v", w.sizes.of)
	}
}

// In a FIFO queue or topic nothing overtakes what its group has before it, and other
// groups go together.
func TestFIFOOrder(t *testing.T) {
	of := func(kind, topic string) *action.Delivery {
		d := delivery("sqs", topic, "queueUrl", "http://q/1/a.fifo")
		if kind == "sns" {
			d = delivery("sns", topic, "targetArn", "arn:aws:sns:eu-local-1:000000000000:t.fifo", "messageFormat", "RAW")
		}
		d.Topic = topic
		return d
	}
	for _, c := range []struct {
		topics, answer, want string
		calls                int
	}{
		{"a a", "503 {}", "again again", 1},
		{"a b a", `200 {"Successful":[{"Id":"1","MessageId":"m"}],"Failed":[{"Id":"0","Code":"InternalError"}]}`,
			"again done again", 1},
		{"a b c", `200 {"Successful":[{"Id":"0"},{"Id":"1"},{"Id":"2"}]}`, "done done done", 1},
		{"a a a", `200 {"MessageId":"m"}`, "done done done", 3},
	} {
		f := &fake{answers: []string{c.answer}}
		var ds []*action.Delivery
		for _, topic := range strings.Fields(c.topics) {
			ds = append(ds, of("sqs", topic))
		}
		got := said(newSet(t, f).Senders()["sqs"].Send(t.Context(), ds))
		if got != c.want || len(f.bodies) != c.calls {
			t.Errorf("%s: %s, want %s; %d calls, want %d", c.topics, got, c.want, len(f.bodies), c.calls)
		}
	}
	f := &fake{answers: []string{"503 "}}
	both := []*action.Delivery{of("sns", "a"), of("sns", "a")}
	if got := said(newSet(t, f).Senders()["sns"].Send(t.Context(), both)); got != "again again" ||
		strings.Contains(f.bodies[0], "PublishBatch") {
		t.Errorf("a topic: %s\n%s", got, f.bodies[0])
	}
}
