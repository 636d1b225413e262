package s3

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// An ending caller is an access key that may end.
type ending struct {
	wire.Caller
	ended *atomic.Bool
}

func (e ending) Holds() bool { return !e.ended.Load() }

// A lastRead ends the key as the last of the body is read.
type lastRead struct {
	*bytes.Reader
	ended *atomic.Bool
}

func (r lastRead) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.Len() == 0 {
		r.ended.Store(true)
	}
	return n, err
}

// What was put by a key that ended meanwhile is not seen, however soon before the end
// of the body that was.
func TestPutOfEndedKey(t *testing.T) {
	for name, ends := range map[string]bool{"holds": false, "ends": true} {
		t.Run(name, func(t *testing.T) {
			var ended, spare atomic.Bool
			x := newSite(t, true, func(o *wire.Options) {
				key := o.Key
				o.Key = func(r *http.Request, id string) wire.Caller { return ending{key(r, id), &ended} }
			})
			x.put(t, "a", "before")
			at := &spare
			if ends {
				at = &ended
			}
			key := "a"
			_, err := x.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key,
				Body: lastRead{bytes.NewReader(make([]byte, 300<<10)), at}})
			info, failed := x.store.Stat("bucket", key)
			if failed != nil {
				t.Fatal(failed)
			}
			got := code(err)
			if ends && (got != "AccessDenied" || info.Size != 6) || !ends && (got != "" || info.Size == 6) {
				t.Errorf("%q, %d bytes", got, info.Size)
			}
		})
	}
}
