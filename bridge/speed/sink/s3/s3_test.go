package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// A store that does not answer ends a call in the time that its bytes may take.
func TestCallsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(aws.Config{Region: "r", BaseEndpoint: aws.String("http://s3.test"),
			Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
			Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
			HTTPClient:  &http.Client{Transport: counterpart.Silent{}}})
		began := time.Now()
		err := s.Put(t.Context(), "bucket", "key", func(w io.Writer) error {
			_, err := w.Write(make([]byte, 1<<20))
			return err
		})
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 68*time.Second {
			t.Errorf("a put ended after %v: %v", took, err)
		}
		began = time.Now()
		_, _, err = s.Get(t.Context(), "bucket", "key", 100)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Minute {
			t.Errorf("a get ended after %v: %v", took, err)
		}
	})
}
