package alarm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink/alertmanager"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// A stand is an Alertmanager that only remembers what it is sent.
type stand struct {
	mu     sync.Mutex
	status int
	got    []alertmanager.Alert
}

func (s *stand) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var alerts []alertmanager.Alert
	if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil {
		return nil, err
	}
	if s.status == 0 {
		s.got = append(s.got, alerts...)
		s.status = 200
		defer func() { s.status = 0 }()
	}
	return &http.Response{StatusCode: s.status, Body: io.NopCloser(bytes.NewReader(nil))}, nil
}

// took returns what came since it was asked last.
func (s *stand) took() []alertmanager.Alert {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

func (s *stand) answers(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// inBubble runs f with alarms over a log of its own.
func inBubble(t *testing.T, most int, f func(t *testing.T, open func() *Service, to *stand)) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		store := pebbletest.Start(t)
		to := &stand{}
		client := alertmanager.New(alertmanager.Options{URL: "http://am", HTTP: &http.Client{Transport: to}})
		f(t, func() *Service {
			s, err := Open(store, Options{To: client, Labels: map[string]string{"region": "eu"}, Most: most, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}, to)
	})
}

func set(t *testing.T, s *Service, name, state, reason string) {
	t.Helper()
	a := Alarm{Name: name, State: state, Reason: reason, Rule: "r", Since: time.Now()}
	if err := s.Set(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// What is in ALARM is sent again each minute, also by the process that comes after the
// one that ended; what is resolved is not.
func TestSentAgain(t *testing.T) {
	inBubble(t, 10, func(t *testing.T, open func() *Service, to *stand) {
		s := open()
		begun := time.Now()
		set(t, s, "hot", raised, "81")
		set(t, s, "cold", raised, "-3")
		if got := to.took(); len(got) != 2 || got[0].Labels["alertname"] != "hot" || got[0].Labels["region"] != "eu" ||
			!got[0].EndsAt.IsZero() || !got[0].StartsAt.Equal(begun) || got[0].Annotations["description"] != "81" {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Second)
		set(t, s, "hot", raised, "85")
		set(t, s, "cold", "OK", "4")
		if got := to.took(); len(got) != 1 || got[0].EndsAt.Sub(begun) != time.Second || !got[0].StartsAt.Equal(begun) {
			t.Errorf("resolved: %+v", got)
		}
		set(t, s, "cold", "INSUFFICIENT_DATA", "") // no alert, so none ends
		for _, s := range []*Service{s, open()} {
			run, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = s.Run(run) })
			time.Sleep(3*time.Minute + time.Second)
			cancel()
			wg.Wait()
			got := to.took()
			if len(got) != 4 {
				t.Fatalf("sent %d times, want at once and each minute", len(got))
			}
			if last := got[3]; last.Labels["alertname"] != "hot" || !last.StartsAt.Equal(begun) ||
				last.Annotations["description"] != "85" {
				t.Errorf("%+v", last)
			}
		}
	})
}

// What Alertmanager does not take is not kept, so that it is tried again.
func TestRefused(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, open func() *Service, to *stand) {
		s := open()
		for _, status := range []int{400, 401, 503} {
			to.answers(status)
			err := s.Set(t.Context(), Alarm{Name: "a", State: raised, Since: time.Now()})
			_, ofAlert := errors.AsType[*post.StatusError](err)
			if err == nil || ofAlert != (status == 400) || len(s.List()) != 0 {
				t.Errorf("%d: %v, %+v", status, err, s.List())
			}
		}
		if s.Failures() != 3 {
			t.Errorf("%d failures", s.Failures())
		}
		to.answers(0)
		set(t, s, "a", "OK", "")
		time.Sleep(time.Second)
		set(t, s, "b", "OK", "")
		set(t, s, "c", raised, "") // in the place of a
		set(t, s, "d", raised, "")
		err := s.Set(t.Context(), Alarm{Name: "e", State: "OK"})
		if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "max_alarms") {
			t.Errorf("one too many: %v", err)
		}
		to.took()
		if err := s.Delete(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		if got := to.took(); len(got) != 1 || got[0].EndsAt.IsZero() {
			t.Errorf("deleted: %+v", got)
		}
		if err := s.Delete(t.Context(), "c"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if all := open().List(); len(all) != 1 || all[0].Name != "d" || all[0].State != raised {
			t.Errorf("after a restart: %+v", all)
		}
	})
}
