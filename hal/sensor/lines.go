package sensor

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/payload"
)

// maxLine is how long a line of a program or a serial port may be, in bytes. Longer
// ones are dropped.
const maxLine = 4096

// A lineSplitter is an io.Writer that calls on for each line of what is written to
// it, without its end (\n, \r\n or \r). The slice is valid until on returns.
type lineSplitter struct {
	on   func(line []byte)
	buf  []byte
	over bool // within a line that is too long
	long int  // lines that were too long
}

func (s *lineSplitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if s.over = s.over || len(s.buf)+len(part) > maxLine; !s.over {
			s.buf = append(s.buf, part...)
		}
		if i < 0 {
			break
		}
		s.end()
		p = p[i+1:]
	}
	return n, nil
}

// end ends the last line, if there is one.
func (s *lineSplitter) end() {
	switch {
	case s.over:
		s.long++
	case len(s.buf) > 0:
		s.on(s.buf)
	}
	s.buf, s.over = s.buf[:0], false
}

// A lineReader makes readings of lines that come by themselves.
type lineReader struct {
	feed    *feed
	mapping *mapping
	log     *limitedLog
	lines   int       // within the second from since on
	since   time.Time // the second's begin
}

// maxLineRate is how many lines a second are read; a source that says more waits.
const maxLineRate = 1000

func (r *lineReader) line(ctx context.Context, line []byte) {
	now := time.Now()
	if now.Sub(r.since) >= time.Second {
		r.lines, r.since = 0, now
	}
	if r.lines++; r.lines > maxLineRate {
		_ = pause(ctx, time.Until(r.since.Add(time.Second))) // at ctx's end the source is ended
	}
	members, err := payload.Line(line)
	if err != nil {
		r.log.warn("a line is not understood", "err", err)
		return
	}
	if chs, vals, ok := r.mapping.apply(members); ok {
		r.feed.put(hal.Push{At: now, Channels: chs, Values: vals})
	}
}

// A limitedLog writes at most logLines in logEvery, and how many it left out.
type limitedLog struct {
	log *slog.Logger

	mu    sync.Mutex // guards the rest
	begin time.Time
	lines int
}

const (
	logLines = 5
	logEvery = time.Minute
)

func (l *limitedLog) warn(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.begin) >= logEvery {
		if out := l.lines - logLines; out > 0 {
			l.log.Warn("lines were left out", "lines", out)
		}
		l.begin, l.lines = now, 0
	}
	if l.lines++; l.lines <= logLines {
		l.log.Warn(msg, args...)
	}
}
