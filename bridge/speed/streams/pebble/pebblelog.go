package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// pebbleLog hands Pebble's messages to slog at debug level, and keeps the
// program alive where Pebble would end it, if that is safe.
type pebbleLog struct{ s *Store }

func (l pebbleLog) Infof(format string, args ...any) {
	if l.s.log.Enabled(context.Background(), slog.LevelDebug) {
		l.s.log.Debug(strings.TrimSpace(fmt.Sprintf(format, args...)), "from", "pebble")
	}
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.s.log.Debug("error: "+strings.TrimSpace(fmt.Sprintf(format, args...)), "from", "pebble")
}

// Fatalf is called when a write to the log failed, and Apply then returns nil
// (pebble v2.1.7, db.go applyInternal): our callers look at Err after it. All
// other calls come from broken invariants or a failed manifest, after which
// Pebble must not go on.
func (l pebbleLog) Fatalf(format string, args ...any) {
	err := errors.New(strings.TrimSpace(fmt.Sprintf(format, args...)))
	for _, a := range args {
		if e, ok := a.(error); ok {
			err = e
		}
	}
	l.s.fail(err)
	if !strings.Contains(format, "fatal commit error") {
		panic(fmt.Sprintf(format, args...))
	}
}
