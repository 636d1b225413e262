package firehose

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

const spreadDoc = `{"DeliveryStreamName":"d","ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake",
  "Prefix":"k=!{partitionKeyFromQuery:k}/","ErrorOutputPrefix":"failed/!{firehose:error-output-type}/",
  "BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":60},"DynamicPartitioningConfiguration":{"Enabled":true},
  "ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":"MetadataExtraction","Parameters":[
    {"ParameterName":"MetadataExtractionQuery","ParameterValue":"{k:.k}"},
    {"ParameterName":"JsonParsingEngine","ParameterValue":"JQ-1.6"}]}]}}}`

// A record of whose partition key no object's key can be made is a line, and holds up no
// other.
func TestPartitionOfNoKey(t *testing.T) {
	own, err := objects.Open(t.TempDir(), objects.Options{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	synctest.Test(t, func(t *testing.T) {
		c, err := Parse([]byte(spreadDoc))
		if err != nil {
			t.Fatal(err)
		}
		store, s, stop := runningWith(t, vfs.NewMem(), Options{Log: quiet(), Objects: own}, c)
		defer stop()
		put(t, store, c.Name, `{"k":"a"}`, `{"k":"\u0000"}`, `{"k":"`+strings.Repeat("\u20ac", 400)+`"}`, `{"k":"../b"}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := s.Stats()[c.Name]; n.Records != 2 || n.Failed != 2 || n.Objects != 3 || n.Failures != 0 {
			t.Errorf("%+v", n)
		}
	})
	n := 0
	_ = filepath.WalkDir(own.Path(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if n != 3 {
		t.Errorf("%d objects", n)
	}
}
