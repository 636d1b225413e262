package admin

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/secrets"
	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/alarm"
	"github.com/tidemill/tidemill/bridge/speed/hold"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// An Error is the form in which every error is answered.
type Error struct {
	Message string `json:"message"`
}

// badRequest marks errors of the caller.
type badRequest struct{ error }

func (b badRequest) Unwrap() error { return b.error }

// statuses has a row for each kind of error that is the caller's; the first that
// applies counts. What has none is the bridge's.
var statuses = []struct {
	is     func(error) bool
	status int
}{
	{isA[*http.MaxBytesError], http.StatusRequestEntityTooLarge},
	{isA[badRequest], http.StatusBadRequest},
	{is(backup.ErrRequest), http.StatusBadRequest},
	{is(backup.ErrBusy), http.StatusConflict},
	{is(registry.ErrInvalid), http.StatusBadRequest},
	{is(authz.ErrMalformed), http.StatusBadRequest},
	{is(pki.ErrRequest), http.StatusBadRequest},
	{is(pki.ErrRotation), http.StatusConflict},
	{is(sink.ErrName), http.StatusBadRequest},
	{is(secrets.ErrName), http.StatusBadRequest},
	{is(secrets.ErrTooLarge), http.StatusBadRequest},
	{is(secrets.ErrText), http.StatusBadRequest},
	{is(secrets.ErrKind), http.StatusConflict},
	{is(secrets.ErrNotFound), http.StatusNotFound},
	{is(rules.ErrID), http.StatusBadRequest},
	{is(rules.ErrReplay), http.StatusBadRequest},
	{isA[watch.FilterError], http.StatusBadRequest},
	{is(watch.ErrFull), http.StatusTooManyRequests},
	{is(errForbidden), http.StatusForbidden},
	{is(registry.ErrNotFound), http.StatusNotFound},
	{is(hold.ErrNotHeld), http.StatusNotFound},
	{is(lambda.ErrNotFound), http.StatusNotFound},
	{isA[*lambda.ThrottledError], http.StatusTooManyRequests},
	{is(lambda.ErrTooLarge), http.StatusRequestEntityTooLarge},
	{is(alarm.ErrNotFound), http.StatusNotFound},
	{is(streams.ErrNotFound), http.StatusNotFound},
	{is(registry.ErrExists), http.StatusConflict},
	{is(action.ErrInUse), http.StatusConflict},
	{is(registry.ErrConflict), http.StatusConflict},
	{is(streams.ErrExists), http.StatusConflict},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// writeError answers with an error, or breaks off the answer that has begun, and
// logs what is the bridge's.
func writeError(w *answer, r *http.Request, log *slog.Logger, err error) {
	status := http.StatusInternalServerError
	for _, s := range statuses {
		if s.is(err) {
			status = s.status
			break
		}
	}
	if status == http.StatusInternalServerError {
		log.Error("admin request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if w.begun {
		w.broke(err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Error{err.Error()})
}
