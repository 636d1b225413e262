package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// answered is what a request is answered with that fails for err, and what is
// logged.
func answered(t *testing.T, err error) (status int, said Error, logged string) {
	t.Helper()
	var text strings.Builder
	w := httptest.NewRecorder()
	writeError(&answer{ResponseWriter: w}, httptest.NewRequest("GET", "/v1/x", nil),
		slog.New(slog.NewTextHandler(&text, nil)), err)
	dec := json.NewDecoder(w.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&said); err != nil {
		t.Error(err)
	}
	return w.Code, said, text.String()
}

// Each kind of error has its status, and what the caller does not cause is logged.
func TestErrors(t *testing.T) {
	for err, want := range map[error]int{
		errors.New("the disk is sick"):                  http.StatusInternalServerError,
		badRequest{errors.New("no")}:                    http.StatusBadRequest,
		fmt.Errorf("body: %w", &http.MaxBytesError{}):   http.StatusRequestEntityTooLarge,
		badRequest{&http.MaxBytesError{}}:               http.StatusRequestEntityTooLarge,
		fmt.Errorf("thing x: %w", registry.ErrNotFound): http.StatusNotFound,
		fmt.Errorf("thing x: %w", registry.ErrExists):   http.StatusConflict,
		fmt.Errorf("bucket: %w", sink.ErrName):          http.StatusBadRequest,
		fmt.Errorf("stream x: %w", streams.ErrNotFound): http.StatusNotFound,
		watch.ErrFull: http.StatusTooManyRequests,
		fmt.Errorf("certificate x: %w", pki.ErrRequest): http.StatusBadRequest,
	} {
		code, said, logged := answered(t, err)
		if code != want || said.Message != err.Error() || (logged != "") != (want == 500) {
			t.Errorf("%v: %d %+v, want %d; logged: %s", err, code, said, want, logged)
		}
	}
}

// So many replays run at once and no more.
func TestTooManyReplays(t *testing.T) {
	h := &replays{stops: map[string]context.CancelFunc{}}
	var id string
	for range maxReplays {
		var err error
		if id, err = h.add(func() {}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := h.add(func() {})
	if code, said, _ := answered(t, err); code != http.StatusConflict ||
		!strings.Contains(said.Message, "replays run already") {
		t.Errorf("one too many: %d %+v", code, said)
	}
	h.remove(id)
	if _, err := h.add(func() {}); err != nil {
		t.Error(err)
	}
}
