package cli

import "log/slog"

// logTime is how the log writes a time: to the millisecond.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// logValue is a slog.HandlerOptions.ReplaceAttr that writes times as logTime, and
// durations as Go does, where JSON would have nanoseconds. An error is its text: the
// text format would write all that it can tell of itself, such as the stacks of
// calls in those of Pebble.
func logValue(groups []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); {
	case a.Key == slog.TimeKey && len(groups) == 0 && v.Kind() == slog.KindTime:
		a.Value = slog.StringValue(v.Time().Format(logTime))
	case v.Kind() == slog.KindAny:
		if err, ok := v.Any().(error); ok && err != nil {
			a.Value = slog.StringValue(err.Error())
		}
	case v.Kind() == slog.KindDuration:
		a.Value = slog.StringValue(v.Duration().String())
	}
	return a
}
