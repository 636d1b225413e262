package firehose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// Get makes a bucket a store that can be read.
func (k *bucket) Get(_ context.Context, bucket, key string, _ int) ([]byte, string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	data, ok := k.objects[bucket+"/"+key]
	if !ok {
		return nil, "", sink.ErrNotFound
	}
	return data, "", nil
}

// under returns the objects with a text in their key, joined.
func (k *bucket) under(text string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for name, o := range k.objects {
		if strings.Contains(name, text) {
			all = append(all, string(o))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// A web is a service in memory.
type web func(r *http.Request, body []byte) (status int, answer string, err error)

func (w web) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	status, answer, err := w(r, body)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

// A bench is a delivery stream to a service in memory, in a bubble.
type bench struct {
	*Service
	k     *bucket
	store *pebble.Store
	stop  func()
}

func newBench(t *testing.T, doc string, w web, k *bucket) *bench {
	t.Helper()
	c, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	store, err := pebble.Open("log", pebbletest.Options(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := objects.Open(t.TempDir(), objects.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{k: k, store: store, Service: New(store, Options{Objects: k, HTTP: &http.Client{Transport: w},
		Kept: kept, Account: "000000000000", Region: "eu-local-1", Log: quiet()})}
	if err := b.Apply(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	logCtx, cancelLog := context.WithCancel(context.Background())
	var log, sinks sync.WaitGroup
	log.Go(func() { _ = store.Run(logCtx) })
	sinks.Go(func() { _ = b.Run(ctx) })
	b.stop = func() {
		cancel()
		sinks.Wait()
		cancelLog()
		log.Wait()
		if err := errors.Join(store.Close(), kept.Close()); err != nil {
			t.Error(err)
		}
	}
	return b
}

func (b *bench) failed(t *testing.T) []Failed {
	t.Helper()
	all, err := b.Failed("d")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// documents is an index of a search service.
type documents struct {
	mu   sync.Mutex
	docs map[string]string // by index and id
	say  func(doc string) int
	down bool
}

func (x *documents) answer(_ *http.Request, body []byte) (int, string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.down {
		return 0, "", errors.New("connection refused")
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	var items []string
	for i := 0; i < len(lines); i += 2 {
		var what map[string]struct {
			Index string `json:"_index"`
			ID    string `json:"_id"`
		}
		if err := json.Unmarshal([]byte(lines[i]), &what); err != nil {
			return 400, "", nil
		}
		status := x.say(lines[i+1])
		if status < 300 {
			x.docs[what["index"].Index+"/"+what["index"].ID] = lines[i+1]
		}
		items = append(items, fmt.Sprintf(`{"index":{"status":%d,"error":{"type":"t","reason":"r"}}}`, status))
	}
	return 200, `{"items":[` + strings.Join(items, ",") + "]}", nil
}

const searchDoc = `{"DeliveryStreamName": "d", "AmazonopensearchserviceDestinationConfiguration": {
  "ClusterEndpoint": "http://search.test:9200", "IndexName": "idx", "IndexRotationPeriod": "OneMonth",
  "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1}, "RetryOptions": {"DurationInSeconds": 300},
  "S3Configuration": {"BucketARN": "arn:aws:s3:::failed"}}}`

// Only what was refused is sent again, under the same id; what can never be had, or
// not in time, becomes lines, and is taken when it is driven again.
func TestSearchDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, fixed, sent := 0, false, map[string]int{}
		x := &documents{docs: map[string]string{}}
		x.say = func(doc string) int {
			sent[doc]++
			switch {
			case doc == `{"n":1}` && !fixed:
				return 400
			case doc == `{"n":2}` && busy < 3:
				busy++
				return 429
			}
			return 201
		}
		b := newBench(t, searchDoc, x.answer, &bucket{objects: map[string][]byte{}})
		defer b.stop()
		put(t, b.store, "d", `{"n":0}`, `{"n":1}`, `{"n":2}`, "no JSON", `{"n": 3}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(x.docs) != 3 || sent[`{"n":0}`] != 1 || sent[`{"n":2}`] != 4 || sent[`{"n":3}`] != 1 {
			t.Errorf("%v, sent %v", x.docs, sent)
		}
		for id := range x.docs {
			if !strings.HasPrefix(id, "idx-2000-01/") || len(id) < 40 {
				t.Errorf("document %s", id)
			}
		}
		lines, err := parseLines([]byte(b.k.under("elasticsearch_failed")))
		if err != nil || len(lines) != 2 || string(lines[0].Raw) != `{"n":1}` || lines[0].Code != "400" ||
			lines[0].DocumentID == "" || lines[0].Index != "idx-2000-01" || string(lines[1].Raw) != "no JSON" {
			t.Fatalf("%v %+v", err, lines)
		}
		if all := b.failed(t); len(all) != 1 || all[0].Records != 2 || all[0].Type != elasticsearchFailed {
			t.Fatalf("%+v", all)
		}
		// One of the two is no JSON for ever: what is driven again stays.
		fixed = true
		var told []Redriven
		err = b.Redrive(t.Context(), "d", nil, func(r Redriven) { told = append(told, r) })
		if err == nil || len(told) != 1 || told[0].Of != 1 || told[0].Error == "" || len(b.failed(t)) != 1 {
			t.Errorf("%v %+v", err, told)
		}
		if x.docs["idx-2000-01/"+lines[0].DocumentID] != `{"n":1}` || len(x.docs) != 4 {
			t.Errorf("driven again: %v", x.docs)
		}

		// Longer than the retry window and back: lines; then all goes on.
		x.down = true
		put(t, b.store, "d", `{"n":4}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		x.down = false
		put(t, b.store, "d", `{"n":5}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		if !strings.Contains(b.k.under("elasticsearch_failed"), "connection refused") || len(x.docs) != 5 {
			t.Errorf("%v", x.docs)
		}
		if err := b.Redrive(t.Context(), "d", []string{b.failed(t)[1].ID}, func(Redriven) {}); err != nil {
			t.Error(err)
		}
		if len(x.docs) != 6 || len(b.failed(t)) != 1 {
			t.Errorf("%v %+v", x.docs, b.failed(t))
		}
		if err := b.Redrive(t.Context(), "d", []string{"none"}, func(Redriven) {}); err == nil {
			t.Error("what is not there was driven again")
		}
	})
}

const endpointDoc = `{"DeliveryStreamName": "d", "HttpEndpointDestinationConfiguration": {
  "EndpointConfiguration": {"Url": "https://hook.test/in", "AccessKey": "key"},
  "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1}, "RetryOptions": {"DurationInSeconds": 60},
  "S3BackupMode": "AllData", "S3Configuration": {"BucketARN": "arn:aws:s3:::failed", "Prefix": "all/"}}}`

// A batch keeps its id over all attempts, also when it is driven again.
func TestEndpointDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids, status := []string{}, 500
		service := func(r *http.Request, body []byte) (int, string, error) {
			var q struct{ RequestID string }
			if err := json.Unmarshal(body, &q); err != nil || r.Header.Get("X-Amz-Firehose-Access-Key") != "key" {
				t.Errorf("%s: %v", body, err)
			}
			ids = append(ids, q.RequestID)
			if status == 0 { // hangs, which does not count
				<-r.Context().Done()
				status = 200
				return 0, "", r.Context().Err()
			}
			return status, fmt.Sprintf(`{"requestId":%q,"timestamp":1}`, q.RequestID), nil
		}
		b := newBench(t, endpointDoc, service, &bucket{objects: map[string][]byte{}})
		defer b.stop()
		put(t, b.store, "d", "one", "two")
		time.Sleep(time.Hour)
		synctest.Wait()
		lines, err := parseLines([]byte(b.k.under("http-endpoint-failed")))
		if err != nil || len(lines) != 2 || lines[1].Code != "HttpEndpoint.DestinationException" ||
			string(lines[1].Raw) != "two" || lines[1].Attempts != len(ids) || len(ids) < 6 || len(ids) > 8 {
			t.Fatalf("%v %+v after %d attempts", err, lines, len(ids))
		}
		status = 200
		if err := b.Redrive(t.Context(), "d", nil, func(Redriven) {}); err != nil {
			t.Error(err)
		}
		if len(slices.Compact(slices.Clone(ids))) != 1 || len(b.failed(t)) != 0 {
			t.Errorf("ids %q, left %+v", ids, b.failed(t))
		}
		status = 0
		ids = nil
		put(t, b.store, "d", "three")
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(ids) != 2 || b.Stats()["d"].Records != 1 {
			t.Errorf("%d attempts, %+v", len(ids), b.Stats()["d"])
		}
		status = 413
		put(t, b.store, "d", "large")
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := b.Stats()["d"]; st.Lost != 1 || len(b.failed(t)) != 0 {
			t.Errorf("too large: %+v", st)
		}
		if got := b.k.under("failed/all/2"); got != "largeonetwothree" {
			t.Errorf("copies: %q", got)
		}
	})
}

const objectsDoc = `{"DeliveryStreamName": "d", "ExtendedS3DestinationConfiguration": {"BucketARN": "arn:aws:s3:::archive",
  "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1}, "CompressionFormat": "ZIP",
  "ProcessingConfiguration": {"Enabled": true, "Processors": [{"Type": "Lambda", "Parameters": [
    {"ParameterName": "LambdaArn", "ParameterValue": "tidemill:blueprint:syslog-to-json"}]}]}}}`

// What S3 does not take for a day is kept, and delivered when S3 is back; what a
// function could not process is put again.
func TestObjectsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}, fail: func(int) error { return errors.New("away") }}
		b := newBench(t, objectsDoc, nil, k)
		defer b.stop()
		line := func(i int) string { return fmt.Sprintf("Oct 11 22:14:15 host su[%d]: text %d", i+1, i) }
		put(t, b.store, "d", line(0), "none", line(1))
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if all := b.failed(t); len(all) != 0 {
			t.Fatalf("after 23 hours: %+v", all)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if all := b.failed(t); len(all) != 2 || all[0].Type != s3Failed || all[0].Bytes == 0 {
			t.Fatalf("after 25 hours: %+v", all)
		}
		k.mu.Lock()
		k.fail = nil
		k.mu.Unlock()
		for i := range 2 {
			put(t, b.store, "d", line(2+i))
			time.Sleep(time.Minute)
		}
		if all := b.failed(t); len(all) != 1 || all[0].Type != processingFailed || len(k.objects) != 4 {
			t.Errorf("S3 is back: %+v, %d objects", all, len(k.objects))
		}
		if lines, err := parseLines([]byte(k.under("processing-failed"))); err != nil || len(lines) != 1 ||
			string(lines[0].Raw) != "none" {
			t.Errorf("%v %+v", err, lines)
		}
		put(t, b.store, "d", "none either")
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := b.Redrive(t.Context(), "d", nil, func(Redriven) {}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := b.failed(t); len(all) != 1 || all[0].Records != 2 || all[0].ID[:20] != "00000000000000000006" {
			t.Errorf("put again: %+v", all)
		}
	})
}

// Lines are read as far as they are lines.
func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"attemptsMade":1,"rawData":"YQ=="}` + "\n\n{}"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := parseLines(raw)
		if err != nil {
			return
		}
		var again []byte
		for i := range all {
			again = all[i].Append(again)
		}
		if more, err := parseLines(again); err != nil || len(more) != len(all) {
			t.Fatalf("%d lines, then %d: %v", len(all), len(more), err)
		}
		if bytes.Count(again, []byte("\n")) != len(all) {
			t.Fatal("a line holds another one")
		}
	})
}

// What still does not go in does not hold up what was kept after it.
func TestKeptObjectsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}, not: "never"}
		b := newBench(t, objectsDoc, nil, k)
		defer b.stop()
		line := func(i int) string { return fmt.Sprintf("Oct 11 22:14:15 host su[%d]: text %d", i+1, i) }
		d := b.streams["d"]
		for i := range driveTries + 3 {
			o := output{bucket: "never", key: fmt.Sprint(i),
				write: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "x"); return err }}
			if i > driveTries {
				o.bucket = "archive"
			}
			p := &plan{Range: delivery.Range{From: uint64(i)}, ID: fmt.Sprint(i)}
			kept, err := d.keep(t.Context(), p, []output{o}, errors.New("away"))
			batch := b.store.NewBatch()
			if err := errors.Join(err, d.register(batch, kept), b.store.Commit(t.Context(), batch)); err != nil {
				t.Fatal(err)
			}
			d.registered(kept)
			time.Sleep(time.Second)
		}
		for i, want := range []int{0, 1, 2, 2} { // how many of the two are in
			put(t, b.store, "d", line(1+i))
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := 2 - (len(b.failed(t)) - driveTries - 1); got != want {
				t.Errorf("after %d deliveries %d that can be had are delivered, want %d", i+1, got, want)
			}
		}
		k.mu.Lock()
		k.not = ""
		k.mu.Unlock()
		for i := range driveTries + 1 {
			put(t, b.store, "d", line(9+i))
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if all := b.failed(t); len(all) != 0 {
			t.Errorf("%+v", all)
		}
	})
}

// An object that was delivered, and whose file stays, is registered until that is
// gone; what is registered without a file is so no longer.
func TestDrivenObjectsLeaveNoFile(t *testing.T) {
	k := &bucket{objects: map[string][]byte{}}
	b := newBench(t, objectsDoc, nil, k)
	defer b.stop()
	d := b.streams["d"]
	o := output{bucket: "archive", key: "a",
		write: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "x"); return err }}
	kept, err := d.keep(t.Context(), &plan{ID: "p"}, []output{o}, errors.New("away"))
	batch := b.store.NewBatch()
	if err := errors.Join(err, d.register(batch, kept), b.store.Commit(t.Context(), batch)); err != nil {
		t.Fatal(err)
	}
	d.registered(kept)
	undo := func() {}
	k.fail = func(int) error { // as of the first Put, which has read the file by then
		undo = leadAstray(t, filepath.Join(b.opts.Kept.Path(), keptBucket, "d"))
		return nil
	}
	if err := d.driveObject(t.Context(), kept[0]); err == nil || len(b.failed(t)) != 1 {
		t.Errorf("its file cannot be deleted: %v, %+v", err, b.failed(t))
	}
	undo()
	k.fail = nil
	if err := errors.Join(d.driveObject(t.Context(), kept[0])); err != nil || len(b.failed(t)) != 0 {
		t.Errorf("again: %v, %+v", err, b.failed(t))
	}
	if _, err := d.opts.Kept.Stat(keptBucket, kept[0].File); !errors.Is(err, sink.ErrNotFound) {
		t.Errorf("its file: %v", err)
	}
	d.registered(kept)
	if err := d.driveObject(t.Context(), kept[0]); err != nil || len(b.failed(t)) != 0 {
		t.Errorf("without a file: %v, %+v", err, b.failed(t))
	}
}
