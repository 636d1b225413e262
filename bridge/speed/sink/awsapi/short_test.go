package awsapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// What a client of the SDK says of pages that a service answers is one line, and what
// the error is stays to be asked.
func TestClientErrorsAreShort(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	pages := strings.Repeat("a line of many\n\x1b[31m", 1000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		if r.Header.Get("X-Amz-Target") != "" {
			_, _ = w.Write([]byte(`{"__type":"ValidationException","message":"` +
				strings.NewReplacer("\n", `\n`, "\x1b", `\u001b`).Replace(pages) + `"}`))
			return
		}
		_, _ = w.Write([]byte("<Error><Code>InvalidRequest</Code><Message>" +
			strings.ReplaceAll(pages, "\x1b", "") + "</Message></Error>"))
	}))
	defer srv.Close()
	c, err := Place{Region: "eu-local-1", EndpointURL: srv.URL}.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := "name"
	_, ofKinesis := kinesis.NewFromConfig(c).ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &name})
	_, ofS3 := s3.NewFromConfig(c).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &name, Key: &name})
	for want, err := range map[string]error{"ValidationException": ofKinesis, "InvalidRequest": ofS3} {
		text := err.Error()
		if len(text) > maxShown+100 || strings.ContainsAny(text, "\n\x1b") || !strings.Contains(text, want) ||
			!strings.HasSuffix(text, "…") {
			t.Errorf("%d bytes: %.900q", len(text), text)
		}
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != want || !Permanent(err) {
			t.Errorf("%v is no %s", err, want)
		}
	}
	if plain := errors.New("as it is"); shortened(plain) != plain {
		t.Error("a short error is another one")
	}
}
