package firehose

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// An object that was planned is written where it was planned, though the
// configuration has another place by now, unless that place does not take it.
func TestPlanKeepsItsPlace(t *testing.T) {
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			away := func(int) error { return errors.New("away") }
			at := map[string]*bucket{"old": {objects: map[string][]byte{}, fail: away},
				"new": {objects: map[string][]byte{}}}
			o := Options{Log: quiet(), S3: func(p Place) (sink.Objects, error) { return at[p.Region], nil }}
			c := config(t, "a", 1<<20, 0)
			c.Objects.Region = "old"
			c.SourceBackup = &Objects{Bucket: "copies", Region: "old", Prefix: c.Objects.Prefix}
			fs := vfs.NewMem()
			store, _, stop := runningWith(t, fs, o, c)
			put(t, store, "a", "one")
			time.Sleep(time.Minute)
			stop()

			if !gone {
				at["old"].fail = nil
			}
			c = config(t, "a", 1<<20, 0)
			c.Objects.Region = "new"
			c.SourceBackup = &Objects{Bucket: "others", Region: "new", Prefix: c.Objects.Prefix}
			store, s, stop := runningWith(t, fs, o, c)
			defer stop()
			time.Sleep(time.Minute)
			put(t, store, "a", "two")
			time.Sleep(time.Minute)
			synctest.Wait()
			if n := s.Stats()["a"].Records; n != 2 {
				t.Errorf("gone %v: %d records", gone, n)
			}
			want := map[string][]string{"old": {"one", "one"}, "new": {"two", "two"}} // with their copies
			if gone {
				want = map[string][]string{"old": nil, "new": {"one", "one", "two", "two"}}
			}
			for name, k := range at {
				if got := k.lines(t); !slices.Equal(got, want[name]) {
					t.Errorf("gone %v: %s has %q, want %q", gone, name, got, want[name])
				}
			}
			buckets := map[string]bool{}
			for key := range at["old"].objects {
				buckets[strings.SplitN(key, "/", 2)[0]] = true
			}
			if got := slices.Sorted(maps.Keys(buckets)); !gone && !slices.Equal(got, []string{"copies", "readings"}) {
				t.Errorf("buckets %q", got)
			}
		})
	}
}

// What a plan says survives its bytes; a plan of before has what the configuration
// says today.
func TestPlanAsItWas(t *testing.T) {
	c, err := Parse([]byte(converted))
	if err != nil {
		t.Fatal(err)
	}
	d := &stream{state: []byte("s"), opts: &Options{}}
	made, err := d.plan(c, 0, 1, when)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	read, err := d.Decode(raw)
	if err != nil || !reflect.DeepEqual(read, made) {
		t.Errorf("%s: %+v, %v", raw, read, err)
	}
	today := config(t, "a", 1, 0)
	today.Objects.Region = "elsewhere"
	was, err := read.(*plan).as(today)
	if err != nil || !reflect.DeepEqual(was.Conversion, c.Conversion) || was.Objects.place() != (Place{}) ||
		was.Objects.Bucket != "lake" || today.Conversion != nil || today.Objects.Bucket != "readings" {
		t.Errorf("%+v of %+v", was, today)
	}
	if !read.(*plan).moved(today) || read.(*plan).moved(c) {
		t.Error("moved")
	}
	before, err := d.Decode([]byte(`{"from":0,"to":1,"bucket":"lake","key":"k"}`))
	if err != nil || before.(*plan).moved(today) {
		t.Errorf("of before: %+v, %v", before, err)
	}
	if is, err := before.(*plan).as(today); err != nil || is != today {
		t.Errorf("of before: %+v, %v", is, err)
	}
}

// What was planned is processed as the configuration said then, though an update and
// a restart came between.
func TestPlanKeepsItsProcessing(t *testing.T) {
	const doc = `{"DeliveryStreamName":"a","ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake",
	  "Prefix":"PREFIX/","ErrorOutputPrefix":"bad/","BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":0},
	  "CustomTimeZone":"+02:00","DynamicPartitioningConfiguration":{"Enabled":true},"ProcessingConfiguration":{"Enabled":true,
	  "Processors":[PROCESSORS{"Type":"MetadataExtraction","Parameters":[{"ParameterName":"MetadataExtractionQuery",
	  "ParameterValue":"QUERY"},{"ParameterName":"JsonParsingEngine","ParameterValue":"JQ-1.6"}]}]}}}`
	parsed := func(prefix, processors, query string) *Config {
		fill := strings.NewReplacer("PREFIX", prefix, "PROCESSORS", processors, "QUERY", query)
		c, err := Parse([]byte(fill.Replace(doc)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}, fail: func(int) error { return errors.New("away") }}
		c := parsed("old/!{partitionKeyFromQuery:k}", `{"Type":"RecordDeAggregation","Parameters":[{"ParameterName":
		  "SubRecordType","ParameterValue":"JSON"}]},{"Type":"AppendDelimiterToRecord","Parameters":[]},`, "{k:.k}")
		fs := vfs.NewMem()
		store, _, stop := running(t, fs, k, c)
		put(t, store, "a", `{"k":"x"}{"k":"y","l":"1"}`, `{"l":"z"}`)
		time.Sleep(time.Minute)
		stop()
		k.fail = nil
		c = parsed("new/!{partitionKeyFromQuery:l}", `{"Type":"Decompression","Parameters":[{"ParameterName":
		  "CompressionFormat","ParameterValue":"GZIP"}]},`, "{l:.l}")
		_, s, stop := running(t, fs, k, c)
		defer stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		var got []string
		for key, raw := range k.objects {
			_, rest, _ := strings.Cut(key, "/")
			if strings.HasPrefix(rest, "bad/metadata-extraction-failed/") {
				got = append(got, "failed")
				continue
			}
			got = append(got, rest[:strings.Index(rest, "/")+2]+" "+string(raw))
		}
		slices.Sort(got)
		want := []string{"failed", "old/x {\"k\":\"x\"}\n", "old/y {\"k\":\"y\",\"l\":\"1\"}\n"}
		if st := s.Stats()["a"]; !slices.Equal(got, want) || st.Records != 2 || st.Failed != 1 {
			t.Errorf("%q, want %q; %+v", got, want, st)
		}
	})
}
