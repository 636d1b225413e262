package firehose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"

	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
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
		var line conversionFailure
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
}

// A table of the catalogue is found when a delivery is planned, so that a new version
// counts from the next one on; without it the records wait.
func TestCatalogued(t *testing.T) {
	c, err := ParseRequest([]byte(converted[:strings.Index(converted, ",\n \"Tidemill\"")] + "}"))
	if err != nil {
		t.Fatal(err)
	}
	table := func(columns string) *catalogue.Table {
		one, err := catalogue.Parse([]byte(`{"TableInput":{"Name":"T","StorageDescriptor":{"Columns":[` + columns +
			`]}},"DatabaseName":"d"}`))
		if err != nil {
			t.Fatal(err)
		}
		return one
	}
	synctest.Test(t, func(t *testing.T) {
		tables := catalogue.New()
		k := &bucket{objects: map[string][]byte{}}
		store, s, stop := runningWith(t, vfs.NewMem(), Options{Objects: k, Tables: tables, Log: quiet()}, c)
		defer stop()
		if err := s.Check(c); err == nil || !strings.Contains(err.Error(), "d.t") {
			t.Errorf("without the table: %v", err)
		}
		put(t, store, "a", `{"id":1}`)
		time.Sleep(time.Minute)
		if i, err := s.Info("a"); err != nil || i.Backlog.Records != 1 || !strings.Contains(i.LastError, "d.t") {
			t.Errorf("%+v, %v", i, err)
		}
		tables.Put(table(`{"Name":"id","Type":"int"}`))
		time.Sleep(5 * time.Minute)
		tables.Put(table(`{"Name":"id","Type":"int"},{"Name":"m","Type":"map<string,array<struct<a:int>>>"}`))
		put(t, store, "a", `{"id":2,"m":{"k":[{"a":1}]}}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		var got []string
		for _, o := range k.objects {
			f, err := parquet.OpenFile(bytes.NewReader(o), int64(len(o)))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(f.NumRows(), " ", len(f.Schema().Columns())))
		}
		if slices.Sort(got); !slices.Equal(got, []string{"1 1", "1 3"}) || s.Check(c) != nil {
			t.Errorf("rows and columns %q", got)
		}
		tables.Keep(nil)
		if s.Check(c) == nil {
			t.Error("found what is gone")
		}
	})
}
