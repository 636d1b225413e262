package firehose

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const remoteDoc = `{"DeliveryStreamName": "d", "DeliveryStreamType": "KinesisStreamAsSource",
  "KinesisStreamSourceConfiguration": {"KinesisStreamARN": "arn:aws:kinesis:eu-local-1:000000000000:stream/in"},
  "Tidemill": {"Kinesis": {"Region": "eu-local-1", "EndpointURL": "http://127.0.0.1:1"}},
  "ExtendedS3DestinationConfiguration": {"BucketARN": "arn:aws:s3:::lake", "Prefix": "x/"}}`

// A source elsewhere is asked by the client that is bound to what may be reached.
func TestRemoteSourceHasTheClient(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		service := web(func(r *http.Request, _ []byte) (int, string, error) {
			if r.URL.Host == "127.0.0.1:1" {
				asked.Add(1)
			}
			return 0, "", errors.New("away")
		})
		b := newBench(t, remoteDoc, service, &bucket{objects: map[string][]byte{}})
		defer b.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked.Load() == 0 {
			t.Error("the source was not asked by it")
		}
	})
}
