package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/seal"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// running are configurations that would run, over a real log.
type running struct {
	store *pebble.Store
	mu    sync.Mutex
	all   map[string]*firehose.Config
}

func (r *running) Apply(c *firehose.Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := firehose.New(r.store, firehose.Options{Log: slog.New(slog.DiscardHandler)}).Apply(c); err != nil {
		return err
	}
	r.all[c.Name] = c
	return nil
}

func (r *running) Check(*firehose.Config) error { return nil }

func (r *running) Remove(_ context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, name)
	return r.store.Delete(firehose.StreamName(name))
}

func (r *running) Config(name string) *firehose.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[name]
}

func (r *running) Names() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.all {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// opened opens the API over fs, with a delay of a second; done closes it.
func opened(t *testing.T, fs vfs.FS) (s *Service, r *running, done func()) {
	t.Helper()
	return openedWith(t, fs, nil)
}

func openedWith(t *testing.T, fs vfs.FS, key *seal.Key) (s *Service, r *running, done func()) {
	t.Helper()
	store, err := pebble.Open("log", pebble.Options{FS: fs, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Run(ctx) })
	r = &running{store: store, all: map[string]*firehose.Config{}}
	s, err = Open(r, store, Options{Account: "000000000000", Region: "eu-local-1", Delay: time.Second, Seal: key,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { _ = s.Run(ctx) })
	return s, r, func() {
		cancel()
		wg.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

func of(name string) Ref { return Ref{&name} }

const made = `{"DeliveryStreamName":"NAME","Tags":[{"Key":"a","Value":"1"}],"ExtendedS3DestinationConfiguration":{"RoleARN":"r",
  "BucketARN":"arn:aws:s3:::lake","Prefix":"p/","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":60}}}`

func create(t *testing.T, s *Service, name string) {
	t.Helper()
	one := "1"
	if _, err := s.Create(t.Context(), "", &CreateInput{of(name), []Tag{{ptr("a"), &one}}},
		[]byte(strings.Replace(made, "NAME", name, 1))); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func code(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return fmt.Sprint(err)
}

func describe(t *testing.T, s *Service, name string) *Description {
	t.Helper()
	d, err := s.Describe(t.Context(), "", &DescribeInput{Ref: of(name)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The states of a delivery stream, and what each allows.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, done := opened(t, vfs.NewMem())
		defer done()
		put := func() string {
			_, err := s.PutRecord(t.Context(), &PutRecordInput{of("a"), &Record{[]byte("x")}})
			return code(err)
		}
		if got := put(); got != ResourceNotFound {
			t.Error(got)
		}
		create(t, s, "a")
		_, err := s.Create(t.Context(), "", &CreateInput{Ref: of("a")}, []byte(strings.Replace(made, "NAME", "a", 1)))
		if code(err) != ResourceInUse {
			t.Error(err)
		}
		_, err = s.Delete(t.Context(), &DeleteInput{Ref: of("a")})
		if d := describe(t, s, "a"); d.Status != "CREATING" || put() != ResourceNotFound || code(err) != ResourceInUse {
			t.Errorf("%s, %v", d.Status, err)
		}
		time.Sleep(time.Second)
		if d := describe(t, s, "a"); d.Status != "ACTIVE" || put() != "<nil>" || d.Version != "1" ||
			d.ARN != "arn:aws:firehose:eu-local-1:000000000000:deliverystream/a" {
			t.Errorf("%+v", d)
		}
		if _, err = s.Delete(t.Context(), &DeleteInput{Ref: of("a")}); err != nil {
			t.Fatal(err)
		}
		if d := describe(t, s, "a"); d.Status != "DELETING" || put() != ResourceNotFound {
			t.Errorf("%+v", d)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if _, err := s.Describe(t.Context(), "", &DescribeInput{Ref: of("a")}); code(err) != ResourceNotFound {
			t.Error(err)
		}
		create(t, s, "a")
	})
}

// Whoever may make a has not made b.
func TestAnotherName(t *testing.T) {
	s, _, done := opened(t, vfs.NewMem())
	defer done()
	_, err := s.Create(t.Context(), "", &CreateInput{Ref: of("a")}, []byte(strings.Replace(made, "NAME", "b", 1)))
	if err == nil || !strings.Contains(err.Error(), `"a" and "b"`) {
		t.Error(err)
	}
}

// What was answered is there after a restart: the delivery stream, its version,
// tags and encryption, and one that was to be deleted goes.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s, _, done := opened(t, fs)
		create(t, s, "a")
		create(t, s, "b")
		time.Sleep(time.Second)
		ctx := t.Context()
		_, err := s.Update(ctx, &UpdateInput{of("a"), ptr("1"), ptr(destinationID)},
			[]byte(`{"DeliveryStreamName":"a","ExtendedS3DestinationUpdate":{"Prefix":"q/"}}`))
		_, err2 := s.Tag(ctx, &TagInput{of("a"), []Tag{{ptr("b"), nil}}})
		_, err3 := s.Untag(ctx, &UntagInput{of("a"), []string{"a", "none"}})
		_, err4 := s.StartEncryption(ctx, &StartEncryptionInput{Ref: of("a")})
		_, err5 := s.Delete(ctx, &DeleteInput{Ref: of("b")})
		if err := errors.Join(err, err2, err3, err4, err5); err != nil {
			t.Fatal(err)
		}
		before := describe(t, s, "a")
		done()
		s, r, done := opened(t, fs)
		defer done()
		if after := describe(t, s, "a"); !reflect.DeepEqual(before, after) || after.Version != "2" ||
			after.Encryption != "ENABLED" {
			t.Errorf("%+v, was %+v", after, before)
		}
		tags, err := s.ListTags(ctx, &ListTagsInput{Ref: of("a")})
		if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "b" {
			t.Errorf("%+v, %v", tags, err)
		}
		if c := r.Config("a"); c == nil || c.Version != 2 {
			t.Errorf("runs: %+v", c)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if names := s.names(); !slices.Equal(names, []string{"a"}) {
			t.Errorf("%q", names)
		}
	})
}

func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, done := opened(t, vfs.NewMem())
		defer done()
		create(t, s, "a")
		time.Sleep(time.Second)
		update := func(version, id, doc string) string {
			_, err := s.Update(t.Context(), &UpdateInput{of("a"), &version, &id}, []byte(doc))
			return code(err)
		}
		const good = `{"ExtendedS3DestinationUpdate":{"CompressionFormat":"GZIP"}}`
		for _, c := range []struct{ version, id, doc, want string }{
			{"2", destinationID, good, ConcurrentModification},
			{"1", "destinationId-000000000002", good, InvalidArgument},
			{"1", destinationID, `{}`, InvalidArgument},
			{"1", destinationID, `{"ExtendedS3DestinationUpdate":{},"S3DestinationUpdate":{}}`, InvalidArgument},
			{"1", destinationID, `{"ExtendedS3DestinationUpdate":{"CompressionFormat":"LZ4"}}`, InvalidArgument},
			{"1", destinationID, `{"ExtendedS3DestinationUpdate":{"Nope":1}}`, InvalidArgument},
			{"1", destinationID, `{"Nope":1,"ExtendedS3DestinationUpdate":{}}`, InvalidArgument},
			{"1", destinationID, good, "<nil>"},
			{"2", destinationID, `{"S3DestinationUpdate":{"Prefix":"q/"}}`, "<nil>"},
		} {
			if got := update(c.version, c.id, c.doc); got != c.want {
				t.Errorf("%s: %s, want %s", c.doc, got, c.want)
			}
		}
		c := r.Config("a")
		key, err := c.Objects.Key("a", c.Version, firehose.Values{At: time.Unix(0, 0)}, "id")
		if err != nil || key != "q/1970/01/01/00/a-3-1970-01-01-00-00-00-id.gz" || c.Size != 1<<20 {
			t.Errorf("%s, %v", key, err)
		}
	})
}

// Records are stored when their ids are told, once each and in order.
func TestPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, done := opened(t, vfs.NewMem())
		defer done()
		create(t, s, "a")
		time.Sleep(time.Second)
		var in PutRecordBatchInput
		in.Ref = of("a")
		for i := range 500 {
			in.Records = append(in.Records, Record{fmt.Append(nil, i)})
		}
		out, err := s.PutRecordBatch(t.Context(), &in)
		if err != nil || *out.FailedPutCount != 0 || len(out.RequestResponses) != 500 {
			t.Fatalf("%+v, %v", out, err)
		}
		recs, err := r.store.Read(firehose.StreamName("a"), 0, 0, 1000, 0)
		if err != nil || len(recs) != 500 || string(recs[499].Data) != "499" {
			t.Fatalf("%d records, %v", len(recs), err)
		}
		ids := map[string]bool{}
		for _, x := range out.RequestResponses {
			ids[*x.RecordId] = true
		}
		if len(ids) != 500 {
			t.Errorf("%d ids", len(ids))
		}
		in.Records = slices.Repeat([]Record{{make([]byte, 1024000)}}, 5)
		if _, err := s.PutRecordBatch(t.Context(), &in); code(err) != InvalidArgument {
			t.Errorf("more than 4 MiB: %v", err)
		}
		s.opts.MaxBacklog = 1
		if _, err := s.PutRecord(t.Context(), &PutRecordInput{of("a"), &Record{}}); code(err) != Unavailable {
			t.Errorf("full: %v", err)
		}
		if n := s.Throttled("a"); n != 1 {
			t.Errorf("%d records were refused", n)
		}
		if _, err := s.Delete(t.Context(), &DeleteInput{Ref: of("a")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := s.Throttled("a"); n != 0 {
			t.Errorf("%d records were refused of what is gone", n)
		}
	})
}

// A full log is one that keeps no attributes for a while.
type fullLog struct{ Log }

func (fullLog) SetAttributes(string, []byte) error { return errors.New("the disk is full") }

// A delivery stream whose document cannot be sealed at a start is the API's as before.
func TestNotSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := seal.Parse(seal.New())
		if err != nil {
			t.Fatal(err)
		}
		s, r, done := opened(t, vfs.NewMem())
		defer done()
		create(t, s, "a")
		again, err := Open(r, fullLog{r.store}, Options{Account: "000000000000", Region: "eu-local-1", Seal: key,
			Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if d := describe(t, again, "a"); again.states["a"] == nil {
			t.Errorf("%+v", d)
		}
		if err := again.Declare(r.Config("a")); err == nil {
			t.Error("a file took it over")
		}
	})
}

// What a file declares is told and put to, and does not change by the API.
func TestDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, done := opened(t, vfs.NewMem())
		defer done()
		c, err := firehose.Parse([]byte(strings.Replace(made, "NAME", "file", 1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Declare(c); err != nil {
			t.Fatal(err)
		}
		source := strings.Replace(made, `"Tags"`, `"DeliveryStreamType":"KinesisStreamAsSource",
		  "KinesisStreamSourceConfiguration":{"KinesisStreamARN":"arn:aws:kinesis:eu-local-1:000000000000:stream/in","RoleARN":"x"},"Tags"`, 1)
		if c, err = firehose.Parse([]byte(strings.Replace(source, "NAME", "fed", 1))); err != nil {
			t.Fatal(err)
		}
		if err := r.Apply(c); err != nil {
			t.Fatal(err)
		}
		d := describe(t, s, "file")
		if to := d.Destination["ExtendedS3DestinationDescription"].(map[string]any); to["Prefix"] != "p/" ||
			to["CompressionFormat"] != "UNCOMPRESSED" || d.Destination["S3DestinationDescription"] == nil {
			t.Errorf("%+v", d.Destination)
		}
		if d := describe(t, s, "fed"); d.Type != "KinesisStreamAsSource" || d.SourceRole != "x" ||
			!strings.HasSuffix(d.SourceARN, "/in") {
			t.Errorf("%+v", d)
		}
		ctx := t.Context()
		_, err = s.PutRecord(ctx, &PutRecordInput{of("file"), &Record{}})
		_, err2 := s.PutRecord(ctx, &PutRecordInput{of("fed"), &Record{}})
		_, err3 := s.Delete(ctx, &DeleteInput{Ref: of("file")})
		_, err4 := s.Create(ctx, "", &CreateInput{Ref: of("file")}, []byte(strings.Replace(made, "NAME", "file", 1)))
		if err != nil || code(err2) != InvalidSource || code(err3) != ResourceInUse || code(err4) != ResourceInUse {
			t.Errorf("%v, %v, %v, %v", err, err2, err3, err4)
		}
		create(t, s, "made")
		if c, err = firehose.Parse([]byte(strings.Replace(made, "NAME", "made", 1))); err != nil {
			t.Fatal(err)
		}
		c.Version = 9
		if err := s.Declare(c); err == nil || !strings.Contains(err.Error(), "made by the API") ||
			r.Config("made").Version != 1 {
			t.Errorf("a file of a name that the API has: %v", err)
		}
		list, err := s.List(ctx, &ListInput{Limit: ptr(int32(2))})
		if err != nil || !slices.Equal(list.DeliveryStreamNames, []string{"fed", "file"}) ||
			!*list.HasMoreDeliveryStreams {
			t.Errorf("%+v, %v", list, err)
		}
		list, err = s.List(ctx, &ListInput{ExclusiveStartDeliveryStreamName: ptr("fed"), DeliveryStreamType: ptr("DirectPut")})
		if err != nil || !slices.Equal(list.DeliveryStreamNames, []string{"file", "made"}) ||
			*list.HasMoreDeliveryStreams {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// No secret of a document is in what is told of it, and an update without one keeps
// it.
func TestDocuments(t *testing.T) {
	redshift := []byte(`{"DeliveryStreamName":"a","RedshiftDestinationConfiguration":{"RoleARN":"r","Username":"u","Password":"hidden-pw",
	  "ClusterJDBCURL":"jdbc:redshift://h:5439/d","CopyCommand":{"DataTableName":"t"},"S3Configuration":{"RoleARN":"r","BucketARN":"arn:aws:s3:::b"}}}`)
	doc, err := updated(redshift, []byte(`{"RedshiftDestinationUpdate":{"CopyCommand":{"DataTableName":"t2"},`+
		`"S3Update":{"CompressionFormat":"GZIP"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		RedshiftDestinationConfiguration struct {
			Password        string
			CopyCommand     map[string]string
			S3Configuration map[string]string
		}
	}
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	r := got.RedshiftDestinationConfiguration
	if r.Password != "hidden-pw" || r.CopyCommand["DataTableName"] != "t2" || r.S3Configuration["CompressionFormat"] != "GZIP" ||
		r.S3Configuration["BucketARN"] != "arn:aws:s3:::b" {
		t.Errorf("%s", doc)
	}
	told, err := described(&firehose.Config{Kind: firehose.ToRedshift, Document: firehose.NewSecret(string(doc))})
	raw, _ := json.Marshal(told)
	if err != nil || strings.Contains(string(raw), "hidden") || !strings.Contains(string(raw), `"S3DestinationDescription"`) ||
		!strings.Contains(string(raw), `"Username":"u"`) {
		t.Errorf("%s, %v", raw, err)
	}
	doc, err = updated(redshift, []byte(`{"HttpEndpointDestinationUpdate":{"S3Update":{"BucketARN":"x"}}}`))
	if err != nil || strings.Contains(string(doc), "Redshift") || !strings.Contains(string(doc), `"S3Configuration":{"BucketARN":"x"}`) {
		t.Errorf("%s, %v", doc, err)
	}
}

// What is kept of a delivery stream shows no password, what an earlier version kept
// neither from the next start on; and another key opens nothing and destroys nothing.
func TestSealed(t *testing.T) {
	const doc = `{"DeliveryStreamName":"a","RedshiftDestinationConfiguration":{"RoleARN":"r","Username":"u",
	  "Password":"hidden-pw","ClusterJDBCURL":"jdbc:redshift://db:5439/d","CopyCommand":{"DataTableName":"t"},
	  "S3Configuration":{"RoleARN":"r","BucketARN":"arn:aws:s3:::lake"}}}`
	key := func() *seal.Key {
		k, err := seal.Parse(seal.New())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	synctest.Test(t, func(t *testing.T) {
		fs, mine := vfs.NewMem(), key()
		look := func(k *seal.Key, runs, shown bool) {
			t.Helper()
			_, r, done := openedWith(t, fs, k)
			defer done()
			info, err := r.store.Describe(firehose.StreamName("a"))
			if err != nil || strings.Contains(string(info.Attributes), "hidden-pw") != shown {
				t.Errorf("%s, %v", info.Attributes, err)
			}
			c := r.Config("a")
			if (c != nil) != runs || runs && c.Redshift.Password.Reveal() != "hidden-pw" {
				t.Errorf("%+v", c)
			}
		}
		s, _, done := opened(t, fs)
		if _, err := s.Create(t.Context(), "", &CreateInput{Ref: of("a")}, []byte(doc)); err != nil {
			t.Fatal(err)
		}
		done()
		look(nil, true, true)
		look(mine, true, false)
		look(key(), false, false)
		look(nil, false, false)
		look(mine, true, false)
		// Its name is taken meanwhile, also for a file, until it is deleted.
		s, r, done := openedWith(t, fs, key())
		if _, err := s.Create(t.Context(), "", &CreateInput{Ref: of("a")}, []byte(doc)); code(err) != ResourceInUse {
			t.Error(err)
		}
		c, err := firehose.ParseRequest([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Declare(c); err == nil || r.Config("a") != nil {
			t.Error("a file took its place")
		}
		done()
		look(mine, true, false)
		s, r, done = openedWith(t, fs, key())
		defer done()
		if _, err := s.Delete(t.Context(), &DeleteInput{Ref: of("a")}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.Describe(firehose.StreamName("a")); !gone(err) {
			t.Error(err)
		}
		if _, err := s.Create(t.Context(), "", &CreateInput{Ref: of("a")}, []byte(doc)); err != nil {
			t.Error(err)
		}
	})
}
