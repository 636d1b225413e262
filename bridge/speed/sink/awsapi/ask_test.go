package awsapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

func TestAsking(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := strings.Repeat("x", len(r.URL.Path)-1)
		if r.URL.RawQuery == "flush" {
			w.(http.Flusher).Flush() // without a length
		}
		_, _ = io.WriteString(w, text)
	}))
	defer s.Close()
	for _, path := range []string{"/xxxx", "/xxxxx", "/xxxx?flush", "/xxxxx?flush"} {
		for _, client := range []aws.HTTPClient{http.DefaultClient, NewHTTP()} {
			r, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			text := []byte(nil)
			resp, err := Asking(aws.Config{HTTPClient: client}, 4).HTTPClient.Do(r)
			if err == nil {
				text, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if long := strings.HasPrefix(path, "/xxxxx"); long != errors.Is(err, errAnswer) || !long && string(text) != "xxxx" {
				t.Errorf("%s: %q, %v", path, text, err)
			}
		}
	}
}
