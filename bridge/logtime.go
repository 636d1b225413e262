package main

import "log/slog"

// logTime is how the log writes a time: to the millisecond.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// shortTime is a slog.HandlerOptions.ReplaceAttr for it.
func shortTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 && a.Value.Kind() == slog.KindTime {
		a.Value = slog.StringValue(a.Value.Time().Format(logTime))
	}
	return a
}
