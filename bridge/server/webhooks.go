package server

import (
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/bridge/control/webhook"
	"github.com/tidemill/tidemill/bridge/speed/notice"
)

// webhooks logs services of the operator's that fail: when it begins, once a
// minute with how many were refused, and when they answer again.
type webhooks struct {
	notices *notice.Log
	log     *slog.Logger
}

// report returns what logs the calls of services of a kind, which is the key of
// the log: authorizer or hook.
func (w *webhooks) report(kind string) webhook.Report {
	return func(name string, err error) {
		key, now := kind+" "+name, time.Now()
		if err == nil {
			w.notices.Ended(key, func(n uint64) {
				w.log.Info("it answers again", kind, name, "since", now, "count", n)
			})
			return
		}
		w.notices.Happened(key, func(n uint64) {
			w.log.Warn("it fails or is away: who needs its word is refused", kind, name, "err", err, "count", n)
		})
	}
}
