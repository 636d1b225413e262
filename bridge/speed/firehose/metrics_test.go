package firehose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/firehose/transform"
)

// slow answers after a second with the records as they came, and not the first time.
type slow struct{ calls int }

func (s *slow) Invoke(_ context.Context, _ string, event []byte) ([]byte, string, error) {
	time.Sleep(time.Second)
	if s.calls++; s.calls == 1 {
		return nil, "", transform.ErrThrottled
	}
	var in struct {
		Records []struct{ RecordID, Data string }
	}
	if err := json.Unmarshal(event, &in); err != nil {
		return nil, "", err
	}
	var out []string
	for _, r := range in.Records {
		out = append(out, fmt.Sprintf(`{"recordId":%q,"result":"Ok","data":%q}`, r.RecordID, r.Data))
	}
	return []byte(`{"records":[` + strings.Join(out, ",") + `]}`), "", nil
}

// Each record is counted once, though its delivery is tried several times.
func TestMetrics(t *testing.T) {
	const doc = `{"DeliveryStreamName":"a","ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake",
	  "BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":60},"S3BackupMode":"Enabled","S3BackupConfiguration":{
	  "BucketARN":"arn:aws:s3:::copies"},"ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":"Lambda",
	  "Parameters":[{"ParameterName":"LambdaArn",
	  "ParameterValue":"arn:aws:lambda:eu-local-1:000000000000:function:f"}]}]},"DataFormatConversionConfiguration":{
	   "SchemaConfiguration":{"DatabaseName":"d","TableName":"t"},
	   "InputFormatConfiguration":{"Deserializer":{"OpenXJsonSerDe":{}}},
	   "OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{}}}}},
	 "Tidemill":{"Table":{"DatabaseName":"d","Name":"t","StorageDescriptor":{"Columns":[{"Name":"id","Type":"int"}]}}}}`
	c, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		k := &bucket{objects: map[string][]byte{}, fail: func(n int) error {
			if n <= 2 {
				return errors.New("away")
			}
			return nil
		}}
		store, s, stop := runningWith(t, vfs.NewMem(), Options{Objects: k, Invoker: &slow{}, Log: quiet()}, c)
		defer stop()
		put(t, store, "a", `{"id":1}`, `{"id":2}`, `{"id":"x"}`)
		time.Sleep(30 * time.Second)
		if i, err := s.Info("a"); err != nil || time.Since(i.Oldest) != 30*time.Second {
			t.Errorf("freshness: %v, %v", i.Oldest, err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		want := Metrics{IncomingBytes: 26, Calls: 2, CallsFailed: 1, CallTime: 2 * time.Second,
			Processed: Amount{3, 26}, Converted: Amount{2, 16}, NotConverted: Amount{1, 10},
			Backup: Amount{3, 26}, BackupAttempts: 3, BackupFailures: 2}
		if got := s.Metrics()["a"]; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if st := s.Stats()["a"]; st.Records != 2 || st.Failed != 1 || st.Failures != 2 {
			t.Errorf("%+v", st)
		}
	})
}
