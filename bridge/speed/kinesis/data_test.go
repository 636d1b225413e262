package kinesis

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// A bench is a service over a log in memory, with a stream "s".
type bench struct {
	API
	t     testing.TB
	fs    vfs.FS
	store *pebble.Store
	stop  func()
	opts  Options
}

func newBench(t testing.TB, shards int, o Options) *bench {
	t.Helper()
	b := &bench{t: t, fs: vfs.NewMem(), opts: o}
	b.opts.Account, b.opts.Region, b.opts.Now = "123456789012", "eu-central-1", time.Now
	b.open("db")
	t.Cleanup(func() { b.stop() })
	if err := b.store.Create("s", streams.Config{Shards: shards, Retention: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) open(dir string) {
	b.t.Helper()
	// Retention's own turns are far apart: reads must keep to the period.
	opts := pebbletest.Options(b.fs)
	opts.Now, opts.RetainEvery = b.opts.Now, 1000*time.Hour
	store, err := pebble.Open(dir, opts)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	s, err := Open(store, b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.store, b.API = store, s.In("")
	b.stop = func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *bench) reopen() {
	b.t.Helper()
	b.stop()
	b.open("db")
}

func p[T any](v T) *T { return &v }

var named = StreamRef{StreamName: p("s")}

// put stores records of which each is "key:data" or "key#hash:data".
func (b *bench) put(recs ...string) *PutRecordsOutput {
	b.t.Helper()
	in := &PutRecordsInput{StreamRef: named}
	for _, r := range recs {
		key, data, _ := strings.Cut(r, ":")
		e := PutRecordsRequestEntry{Data: []byte(data)}
		if k, hash, ok := strings.Cut(key, "#"); ok {
			key, e.ExplicitHashKey = k, &hash
		}
		e.PartitionKey = &key
		in.Records = append(in.Records, e)
	}
	out, err := b.PutRecords(context.Background(), in)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// from returns an iterator.
func (b *bench) from(shard, kind string) *string {
	b.t.Helper()
	out, err := b.GetShardIterator(context.Background(),
		&GetShardIteratorInput{StreamRef: named, ShardId: &shard, ShardIteratorType: &kind})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.ShardIterator
}

func (b *bench) get(it *string, limit int32) *GetRecordsOutput {
	b.t.Helper()
	out, err := b.GetRecords(context.Background(), &GetRecordsInput{ShardIterator: it, Limit: &limit})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func texts(rs []Record) string {
	var all []string
	for _, r := range rs {
		all = append(all, r.PartitionKey+":"+string(r.Data))
	}
	return strings.Join(all, " ")
}

// wantError checks an error's code, and that its message has a text.
func wantError(t testing.TB, err error, code, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

const max128 = "340282366920938463463374607431768211455"

func TestPutAndGet(t *testing.T) {
	b := newBench(t, 2, Options{})
	latest := b.from("shardId-000000000000", "LATEST")
	out := b.put("k#0:a", "k#"+max128+":b", "m#0:", "k#1:c")
	if *out.FailedRecordCount != 0 || len(out.Records) != 4 {
		t.Fatalf("%+v", out)
	}
	for i, shard := range []int{0, 1, 0, 0} {
		if got := *out.Records[i].ShardId; got != shardID(shard) {
			t.Errorf("record %d is in %s, want %d", i, got, shard)
		}
	}
	if a, c := out.Records[0].SequenceNumber, out.Records[2].SequenceNumber; a.Compare(c) >= 0 {
		t.Errorf("%s is not less than %s", a, c)
	}
	b.put("z#0:d")
	for _, it := range []*string{latest, b.from("shardId-0", "TRIM_HORIZON")} {
		got := b.get(it, 2)
		if texts(got.Records) != "k:a m:" || *got.MillisBehindLatest == 0 || len(got.ChildShards) != 0 {
			t.Errorf("%s, behind %d", texts(got.Records), *got.MillisBehindLatest)
		}
		if got.Records[0].SequenceNumber != out.Records[0].SequenceNumber ||
			time.Since(got.Records[0].ApproximateArrivalTimestamp) > time.Minute {
			t.Errorf("%+v", got.Records[0])
		}
		got = b.get(got.NextShardIterator, 10)
		if texts(got.Records) != "k:c z:d" || *got.MillisBehindLatest != 0 {
			t.Errorf("%s, behind %d", texts(got.Records), *got.MillisBehindLatest)
		}
		if got = b.get(got.NextShardIterator, 10); len(got.Records) != 0 || got.Records == nil ||
			got.NextShardIterator == nil {
			t.Errorf("at the tip: %+v", got)
		}
	}
	if got := b.get(b.from("0", "LATEST"), 10); len(got.Records) != 0 {
		t.Errorf("LATEST gave %s", texts(got.Records))
	}
	one, err := b.PutRecord(t.Context(), &PutRecordInput{StreamRef: named, Data: []byte("e"), PartitionKey: p("k"),
		ExplicitHashKey: p("0"), SequenceNumberForOrdering: p(out.Records[3].SequenceNumber.String())})
	if err != nil || one.ShardId != shardID(0) || one.SequenceNumber.Compare(out.Records[3].SequenceNumber) <= 0 {
		t.Errorf("%+v, %v", one, err)
	}
}

func TestPutRefuses(t *testing.T) {
	b := newBench(t, 1, Options{})
	big := make([]byte, 1<<20)
	rec := func(data []byte, hash *string) []PutRecordsRequestEntry {
		return []PutRecordsRequestEntry{{Data: []byte("x"), PartitionKey: p("k")},
			{Data: data, PartitionKey: p("k"), ExplicitHashKey: hash}}
	}
	many := make([]PutRecordsRequestEntry, 11)
	for i := range many {
		many[i] = PutRecordsRequestEntry{Data: big[1:], PartitionKey: p("k")}
	}
	for name, c := range map[string]struct {
		in         PutRecordsInput
		code, text string
	}{
		"unknown stream": {PutRecordsInput{StreamRef: StreamRef{StreamName: p("other")}, Records: rec(nil, nil)},
			ResourceNotFound, "Stream other under account 123456789012 not found."},
		"large record": {PutRecordsInput{StreamRef: named, Records: rec(big, nil)}, Validation,
			"'records.2.member.data' failed to satisfy constraint: Member must have length less than or equal to 1048576"},
		"hash": {PutRecordsInput{StreamRef: named, Records: rec(nil,
			p("340282366920938463463374607431768211456"))}, InvalidArgument,
			"ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was 340282366920938463463374607431768211456"},
		"request": {PutRecordsInput{StreamRef: named, Records: many}, InvalidArgument,
			"Records size exceeds 10 MB limit"},
		"dry run": {PutRecordsInput{StreamRef: named, Records: rec(nil, nil), DryRun: p(true)}, DryRun,
			"would have succeeded"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.PutRecords(t.Context(), &c.in)
			wantError(t, err, c.code, c.text)
		})
	}
	if _, next, _ := b.store.Bounds("s", 0); next != 0 {
		t.Errorf("%d records were stored", next)
	}
	if _, err := b.PutRecords(t.Context(), &PutRecordsInput{StreamRef: named, Records: many[:10]}); err != nil {
		t.Error(err)
	}
	small := newBench(t, 1, Options{SmallRequests: true})
	_, err := small.PutRecords(t.Context(), &PutRecordsInput{StreamRef: named, Records: many[:6]})
	wantError(t, err, InvalidArgument, "Records size exceeds 5 MB limit")

	future := Sequence{created: unix(time.Now()), counter: 1, seconds: unix(time.Now().Add(time.Hour))}.String()
	for _, q := range []string{"0", "123", future} {
		_, err := b.PutRecord(t.Context(),
			&PutRecordInput{StreamRef: named, PartitionKey: p("k"), SequenceNumberForOrdering: &q})
		wantError(t, err, InvalidArgument, "ExclusiveMinimumSequenceNumber "+q+
			" used in PutRecord on stream s under account 123456789012 is invalid.")
	}
	_, err = b.PutRecord(t.Context(), &PutRecordInput{StreamRef: named, Data: big, PartitionKey: p("k")})
	wantError(t, err, Validation, "Value at 'data' failed")
}

func TestGetShardIterator(t *testing.T) {
	b := newBench(t, 2, Options{})
	out := b.put("k#0:a", "k#0:b", "k#0:c", "k#"+max128+":d")
	seq := func(i int) *string { return p(out.Records[i].SequenceNumber.String()) }
	foreign := Sequence{created: 1, counter: 1, seconds: 1}.String()
	shards, err := streams.Shards(b.store, "s")
	if err != nil {
		t.Fatal(err)
	}
	starting := firstSequence(&shards[0])
	tests := []struct {
		name, shard, kind string
		seq               *string
		at                *time.Time
		want              string
		code, text        string
	}{
		{name: "at", shard: "shardId-000000000000", kind: "AT_SEQUENCE_NUMBER", seq: seq(1), want: "k:b k:c"},
		{name: "after", shard: "0", kind: "AFTER_SEQUENCE_NUMBER", seq: seq(1), want: "k:c"},
		{name: "after the last", shard: "any-0", kind: "AFTER_SEQUENCE_NUMBER", seq: seq(2), want: ""},
		{name: "at the start", shard: "0", kind: "AT_SEQUENCE_NUMBER", seq: p(starting.String()), want: "k:a k:b k:c"},
		{name: "after the start", shard: "0", kind: "AFTER_SEQUENCE_NUMBER", seq: p(starting.String()),
			want: "k:a k:b k:c"},
		{name: "time", shard: "0", kind: "AT_TIMESTAMP", at: p(time.Unix(1, 0)), want: "k:a k:b k:c"},
		{name: "time now", shard: "0", kind: "AT_TIMESTAMP", at: p(time.Now().Add(-time.Minute)), want: "k:a k:b k:c"},
		{name: "no number", shard: "0", kind: "AT_SEQUENCE_NUMBER", code: InvalidArgument,
			text: "Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber."},
		{name: "number", shard: "0", kind: "LATEST", seq: seq(0), code: InvalidArgument,
			text: "Request specified LATEST and also a StartingSequenceNumber."},
		{name: "not one", shard: "0", kind: "AT_SEQUENCE_NUMBER", seq: p("7"), code: InvalidArgument,
			text: "StartingSequenceNumber 7 used in GetShardIterator on shard shardId-000000000000 in stream s " +
				"under account 123456789012 is invalid."},
		{name: "wrong shard", shard: "0", kind: "AT_SEQUENCE_NUMBER", seq: seq(3), code: InvalidArgument,
			text: "It encodes shardId-000000000001, while it was used in a call to a shard with shardId-000000000000"},
		{name: "other stream", shard: "0", kind: "AFTER_SEQUENCE_NUMBER", seq: &foreign, code: InvalidArgument,
			text: "because it did not come from this stream."},
		{name: "not yet given", shard: "0", kind: "AT_SEQUENCE_NUMBER",
			seq: p(Sequence{created: starting.created, counter: 9}.String()), code: InvalidArgument,
			text: "is invalid."},
		{name: "closing number", shard: "0", kind: "AT_SEQUENCE_NUMBER",
			seq: p(Sequence{created: starting.created, counter: lastCounter}.String()), code: InvalidArgument,
			text: "is invalid."},
		{name: "no time", shard: "0", kind: "AT_TIMESTAMP", code: InvalidArgument,
			text: "Must specify timestampInMillis"},
		{name: "future", shard: "0", kind: "AT_TIMESTAMP", at: p(time.Now().Add(time.Hour)), code: InvalidArgument,
			text: "cannot be greater than the currentTimestampInMillis"},
		{name: "no such shard", shard: "shardId-000000000002", kind: "LATEST", code: ResourceNotFound,
			text: "Shard shardId-000000000002 in stream s under account 123456789012 does not exist"},
		{name: "no shard's name", shard: "shardId-x", kind: "LATEST", code: ResourceNotFound,
			text: "Could not find shard shardId-x in stream s under account 123456789012."},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			out, err := b.GetShardIterator(t.Context(), &GetShardIteratorInput{StreamRef: named, ShardId: &c.shard,
				ShardIteratorType: &c.kind, StartingSequenceNumber: c.seq, Timestamp: c.at})
			if c.code != "" {
				wantError(t, err, c.code, c.text)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// Again and again, in quotes too, and after a restart.
			quoted := `"` + *out.ShardIterator + `"`
			for _, it := range []*string{out.ShardIterator, out.ShardIterator, &quoted} {
				if got := texts(b.get(it, 10).Records); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
		})
	}
	it := b.from("0", "TRIM_HORIZON")
	b.reopen()
	if got := texts(b.get(it, 10).Records); got != "k:a k:b k:c" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestIteratorString(t *testing.T) {
	for n := 1; n <= 128; n++ {
		it := iterator{time.Now().UnixMilli(), 7, 3, 1 << 40, strings.Repeat("n", n)}
		s := it.String()
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(s) > 512 || (len(b)-152)%16 != 0 || string(b[:8]) != "\x00\x00\x00\x00\x00\x00\x00\x01" {
			t.Fatalf("%d: %s", n, s)
		}
		if got, err := parseIterator(s); err != nil || got != it {
			t.Fatalf("%+v, %v, want %+v", got, err, it)
		}
	}
	b := newBench(t, 1, Options{})
	good := *b.from("0", "LATEST")
	for _, bad := range []string{"", "x", `""`, good[1:], good + "A", strings.Replace(good, good[40:44], "zzzz", 1),
		base64.StdEncoding.EncodeToString(make([]byte, 152)), strings.Repeat("A", 512), good[:8] + "\n" + good[8:]} {
		_, err := b.GetRecords(t.Context(), &GetRecordsInput{ShardIterator: &bad})
		wantError(t, err, InvalidArgument, "Invalid ShardIterator.")
	}
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	it := iterator{issued: now.UnixMilli()}
	if err := it.check(now.Add(300 * time.Second)); err != nil {
		t.Error(err)
	}
	err := it.check(now.Add(301 * time.Second))
	wantError(t, err, ExpiredIterator, "Iterator expired. The iterator was created at time Wed Mar 04 05:06:07 "+
		"UTC 2026 while right now it is "+
		"Wed Mar 04 05:11:08 UTC 2026 which is further in the future than the tolerated delay of 300000 milliseconds.")
}

// What parseIterator takes is what String writes.
func FuzzParseIterator(f *testing.F) {
	f.Add((&iterator{1, 2, 3, 4, "name"}).String())
	f.Add(`"` + (&iterator{1 << 40, 1, 0, 0, strings.Repeat("n", 128)}).String() + `"`)
	f.Fuzz(func(t *testing.T, s string) {
		it, err := parseIterator(s)
		if err != nil {
			return
		}
		if got := it.String(); got != s && `"`+got+`"` != s {
			t.Fatalf("%q -> %+v -> %q", s, it, got)
		}
	})
}

// A stream deleted and made again has none of the old one's places.
func TestIteratorOfAnotherIncarnation(t *testing.T) {
	b := newBench(t, 1, Options{})
	b.put("k:a")
	it := b.from("0", "TRIM_HORIZON")
	if err := b.store.Delete("s"); err != nil {
		t.Fatal(err)
	}
	_, err := b.GetRecords(t.Context(), &GetRecordsInput{ShardIterator: it})
	wantError(t, err, ResourceNotFound, "Shard shardId-000000000000 in stream s under account 123456789012 does not exist")
	if err := b.store.Create("s", streams.Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	b.put("k:b")
	_, err = b.GetRecords(t.Context(), &GetRecordsInput{ShardIterator: it})
	wantError(t, err, ResourceNotFound, "does not exist")
	if st := b.s.Stats(); len(st) != 1 || st[0].Shards[0].InRecords != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestGetRecordsLimits(t *testing.T) {
	b := newBench(t, 1, Options{})
	data := strings.Repeat("x", 500)
	for range 22 {
		recs := make([]string, 500)
		for i := range recs {
			recs[i] = "k:" + data
		}
		b.put(recs...)
	}
	out, err := b.GetRecords(t.Context(), &GetRecordsInput{ShardIterator: b.from("0", "TRIM_HORIZON")})
	if err != nil || len(out.Records) != 10_000 {
		t.Fatalf("%d records, %v, want 10,000", len(out.Records), err)
	}
	if rest := b.get(out.NextShardIterator, 10_000); len(rest.Records) != 1000 {
		t.Errorf("then %d, want 1,000", len(rest.Records))
	}
	big := strings.Repeat("y", 1<<20-1)
	for range 12 {
		b.put("k:" + big)
	}
	out = b.get(b.from("0", "TRIM_HORIZON"), 10_000)
	out = b.get(out.NextShardIterator, 10_000) // 1,000 small ones, then large
	n := 0
	for _, r := range out.Records {
		n += len(r.Data) + len(r.PartitionKey)
	}
	if n > 10<<20 || n < 9<<20 {
		t.Errorf("%d bytes at once", n)
	}
	st := b.s.Stats()[0].Shards[0]
	if want := int64(11_012); st.InRecords != want || st.InBytes != 11_000*501+12<<20 {
		t.Errorf("stats %+v", st)
	}
}
