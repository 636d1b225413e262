package firehose

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"

	"github.com/tidemill/tidemill/deploy/await"
)

const converted = `{"DeliveryStreamName":"a","ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake","Prefix":"in/",
  "BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":0},"DataFormatConversionConfiguration":{
   "SchemaConfiguration":{"DatabaseName":"d","TableName":"t","RoleARN":"r"},
   "InputFormatConfiguration":{"Deserializer":{"OpenXJsonSerDe":{}}},
   "OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{}}}}},
 "Tidemill":{"Table":{"DatabaseName":"d","Name":"t","StorageDescriptor":{"Columns":[{"Name":"id","Type":"int"},
  {"Name":"name","Type":"string"}]}}}}`

// Records become rows of Parquet, and what is none a line of its own.
func TestConverted(t *testing.T) {
	c, err := Parse([]byte(converted))
	if err != nil {
		t.Fatal(err)
	}
	c.Interval = 20 * time.Millisecond
	k := &bucket{objects: map[string][]byte{}}
	store, s, stop := running(t, vfs.NewMem(), k, c)
	defer stop()
	put(t, store, "a", `{"id":1,"name":"one"}`, `{"id":"x"}`, `{"ID":2}{"id":3}`)
	await.True(t, "an object", func() bool { return s.Stats()["a"].Records >= 2 && s.Stats()["a"].Failed == 1 })
	k.mu.Lock()
	defer k.mu.Unlock()
	rows := int64(0)
	for key, o := range k.objects {
		if strings.HasSuffix(key, ".parquet") {
			f, err := parquet.OpenFile(bytes.NewReader(o), int64(len(o)))
			if err != nil {
				t.Fatal(err)
			}
			rows += f.NumRows()
			continue
		}
		var line ConversionFailure
		if err := json.Unmarshal(o, &line); err != nil || !strings.Contains(key, "/in/format-conversion-failed/") ||
			string(line.Raw) != `{"id":"x"}` || line.Table.Table != "t" || line.Code == "" {
			t.Errorf("%s: %s, %v", key, o, err)
		}
	}
	if rows != 3 {
		t.Errorf("%d rows", rows)
	}
}

func TestSchema(t *testing.T) {
	for change, with := range map[string]string{`"Name":"t"`: `"Name":"u"`, `"int"`: `"uniontype"`,
		`"ParquetSerDe"`: `"OrcSerDe"`, `"SizeInMBs":64`: `"SizeInMBs":63`,
		`"Prefix"`:  `"CompressionFormat":"GZIP","Prefix"`,
		`"Table":{`: `"S3":{"Region":"x"},"Tables":{`} {
		if _, err := Parse([]byte(strings.Replace(converted, change, with, 1))); err == nil {
			t.Errorf("%s: accepted", with)
		}
	}
	if _, err := Parse([]byte(converted[:strings.Index(converted, ",\n \"Tidemill\"")] + "}")); err == nil ||
		!strings.Contains(err.Error(), "without Tidemill.Table") {
		t.Errorf("no table: %v", err)
	}
}
