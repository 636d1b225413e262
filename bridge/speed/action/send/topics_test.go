package send

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
)

// hosts answers for webhooks: those called silent never do.
type hosts struct {
	mu    sync.Mutex
	calls map[string][]string // bodies by host
}

func (h *hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.calls[r.URL.Host] = append(h.calls[r.URL.Host], string(body))
	h.mu.Unlock()
	if strings.HasPrefix(r.URL.Host, "silent") {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// Webhooks that never answer take nothing from the other subscribers of a topic, and
// each attempt ends as soon as one of them may take.
func TestSilentWebhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{calls: map[string][]string{}}
		var published []string
		var mu sync.Mutex
		set := New(Options{HTTP: &http.Client{Transport: h}, Topics: map[string]Topic{"t": {
			Webhooks: []string{"http://silent-a/", "http://silent-b/", "http://silent-c/", "http://heard/"},
			MQTT:     []string{"a", "b"}}},
			Publish: func(_ context.Context, d *action.Delivery) error {
				mu.Lock()
				defer mu.Unlock()
				published = append(published, d.Name+" "+string(d.Data))
				return nil
			}})
		of := func(text string) *action.Delivery {
			return delivery("sns", text, "targetArn", "arn:aws:sns:eu-local-1:000000000000:t", "messageFormat", "RAW")
		}
		ds := []*action.Delivery{of("1"), of("2")}
		for range 2 {
			began := time.Now()
			if got := said(set.Senders()["sns"].Send(t.Context(), ds)); got != "again again" {
				t.Error(got)
			}
			if took := time.Since(began); took != webhookLimit {
				t.Errorf("took %v", took)
			}
		}
		heard := h.calls["heard"]
		if len(heard) != 2 || !strings.Contains(heard[0], `"Message":"1"`) || !strings.Contains(heard[1], `"Message":"2"`) {
			t.Errorf("posted %q", heard)
		}
		if len(published) != 4 {
			t.Errorf("published %q", published)
		}
		for _, host := range []string{"silent-a", "silent-b", "silent-c"} {
			if all := h.calls[host]; len(all) != 2 || !strings.Contains(all[1], `"Message":"1"`) {
				t.Errorf("%s was asked %q", host, all)
			}
		}
	})
}
