package firehose

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const logs = `{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","subscriptionFilters":["f"],
  "logEvents":[{"id":"1","timestamp":1510109208016,"message":"one"},{"id":"2","timestamp":2,"message":"{\"a\":2}\n"}]}`

func TestPrepare(t *testing.T) {
	for name, c := range map[string]struct {
		p    Processing
		in   []byte
		want string // parts, with | between; - and a code: it goes no further
	}{
		"nothing":      {Processing{}, []byte("x"), "x"},
		"gzip":         {Processing{Decompress: true}, gzipped(t, "x"), "x"},
		"empty gzip":   {Processing{Decompress: true}, gzipped(t, ""), ""},
		"two members":  {Processing{Decompress: true}, slices.Concat(gzipped(t, "x"), gzipped(t, "y")), "xy"},
		"not gzip":     {Processing{Decompress: true}, []byte("x"), "-Decompression.Failed"},
		"cut off":      {Processing{Decompress: true}, gzipped(t, "xyz")[:20], "-Decompression.Failed"},
		"a bomb":       {Processing{Decompress: true}, gzipped(t, strings.Repeat("x", maxInflated+1)), "-Decompression.Failed"},
		"log events":   {Processing{Decompress: true, LogEvents: true}, gzipped(t, logs), "one|{\"a\":2}\n"},
		"two of them":  {Processing{LogEvents: true}, []byte(logs + "\n" + logs), "one|{\"a\":2}\n|one|{\"a\":2}\n"},
		"control":      {Processing{LogEvents: true}, []byte(`{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"x"}]}`), "nothing"},
		"another type": {Processing{LogEvents: true}, []byte(`{"messageType":"X"}`), "-CloudWatchLogProcessing.Failed"},
		"no message": {Processing{LogEvents: true}, []byte(`{"messageType":"DATA_MESSAGE","logEvents":[{}]}`),
			"-CloudWatchLogProcessing.Failed"},
		"no document": {Processing{LogEvents: true}, []byte(`[]`), "-CloudWatchLogProcessing.Failed"},
		"split":       {Processing{Decompress: true, Split: &Splitter{JSON: true}}, gzipped(t, "{}{}"), "{}|{}"},
		"not split":   {Processing{Split: &Splitter{JSON: true}}, []byte("x"), "-RecordDeAggregation.Failed"},
	} {
		parts, why := c.p.Prepare(c.in)
		got := string(bytes.Join(parts, []byte("|")))
		switch {
		case why != nil:
			got = "-" + why.Code
		case len(parts) == 0:
			got = "nothing"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add(gzipped(f, logs))
	f.Add([]byte(logs))
	f.Add([]byte("{}{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, p := range []Processing{{Decompress: true, LogEvents: true}, {LogEvents: true},
			{Split: &Splitter{JSON: true}},
			{Split: &Splitter{Delimiter: []byte("\n")}}} {
			parts, why := p.Prepare(in)
			if why != nil && (len(parts) > 0 || why.Code == "" || why.Message == "") {
				t.Fatalf("%d parts and %+v", len(parts), why)
			}
			if p.Split != nil && len(parts) > maxSplit {
				t.Fatalf("%d parts", len(parts))
			}
		}
	})
}

func partitioned(t *testing.T) *Config {
	t.Helper()
	c, err := ParseRequest([]byte(withBlock(string(ExtendedS3), blocks[ExtendedS3])))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSpread(t *testing.T) {
	s := newSpread(partitioned(t))
	s.most = 3
	at := func(n int) time.Time { return when.Add(time.Duration(n) * time.Second) }
	items := []spreadItem{{Data: []byte(`{"k":"a"}`), Arrived: at(5)}, {Data: []byte(`{"k":"b"}`), Arrived: at(1)},
		{Data: []byte(`{"k":null}`), Arrived: at(2)}, {Data: []byte(`no`), Arrived: at(2)},
		{Data: []byte(`{"k":"a"}`), Arrived: at(3)},
		{Data: []byte(`{"k":7}`), Arrived: at(3)}, {Data: []byte(`{"k":"d"}`), Arrived: at(3)},
		{Data: []byte(`{"k":"` + strings.Repeat("x", 600) + `"}`), Arrived: at(3)}, {Data: []byte(`{"k":"7"}`),
			Arrived: at(4)}}
	parts, order, refused := s.Add(items)
	var got []string
	for _, id := range order {
		p := parts[id]
		got = append(got, fmt.Sprint(p.Values.Query["k"], p.Items, p.Values.At.Sub(when).Seconds()))
	}
	if want := []string{"a[0 4] 3", "b[1] 1", "7[5 8] 3"}; !slices.Equal(got, want) || len(s.active) != 3 {
		t.Errorf("%q, want %q", got, want)
	}
	var codes []string
	for _, i := range slices.Sorted(maps.Keys(refused)) {
		codes = append(codes, fmt.Sprint(i, strings.TrimPrefix(refused[i].Code, "DynamicPartitioning.")))
	}
	if want := []string{"2MetadataExtractionFailed", "3MetadataExtractionFailed", "6ActivePartitionLimitExceeded",
		"7InvalidPartitionKey"}; !slices.Equal(codes, want) {
		t.Errorf("%q, want %q", codes, want)
	}
	s.Done(order[0])
	if _, order, refused := s.Add(items[6:7]); len(order) != 1 || len(refused) > 0 {
		t.Errorf("after a partition is done: %q, %v", order, refused)
	}
}

func TestFailureLines(t *testing.T) {
	f := failure{Attempts: 1, Arrived: 2, Code: "C", Message: "M", Ended: 3, Raw: []byte("<"), Lambda: "l"}
	if got, want := string(f.Append(nil)), `{"attemptsMade":1,"arrivalTimestamp":2,"errorCode":"C","errorMessage":"M",`+
		`"attemptEndingTimestamp":3,"rawData":"PA==","lambdaArn":"l"}`+"\n"; got != want {
		t.Error(got)
	}
	c := newConversionFailure(Table{"d", "t", "LATEST"}, 7, 2, 3, "C", "M", []byte("<"))
	if got, want := string(c.Append(nil)), `{"attemptsMade":1,"arrivalTimestamp":2,"lastErrorCode":"C","lastErrorMessage":"M",`+
		`"attemptEndingTimestamp":3,"rawData":"PA==","sequenceNumber":"7","subSequenceNumber":null,"dataCatalogTable":`+
		`{"catalogId":"","databaseName":"d","tableName":"t","region":"","versionId":"LATEST"}}`+"\n"; got != want {
		t.Error(got)
	}
}
