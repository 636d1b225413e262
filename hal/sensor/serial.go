package sensor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/goburrow/serial"

	"github.com/tidemill/tidemill/hal"
)

var serialDriver = driver{
	Driver: Driver{
		Name:    "serial",
		Summary: "a device on a serial port that says lines: JSON objects, NMEA, key=value, or name value",
		Options: append(append([]Option{
			{"port", "string", "", "required: best by its stable name, /dev/serial/by-id/..."},
		}, serialOptions...), Option{"channels", "tables", "", channelsHelp}),
		Tables: map[string][]Option{"channels": channelOptions},
	},
	set: func(o *options) opener {
		s := &serialLines{port: o.serialPort(true), mode: o.serialMode(), mapping: o.mapping()}
		return s.open
	},
}

// serialLines is the driver serial.
type serialLines struct {
	feed
	port    string
	mode    serialMode
	mapping *mapping
}

func (s *serialLines) open(ctx context.Context, _ hal.Board) (hal.Sensor, error) {
	if err := serialPorts.take(s.port); err != nil {
		return nil, err
	}
	s.feed.name, s.feed.channels = "serial "+s.port, s.mapping.channels
	if err := s.start(ctx, s.listen); err != nil {
		serialPorts.give(s.port)
		return nil, fmt.Errorf("serial %s: %w", s.port, err)
	}
	return s, nil
}

// Close gives the port back.
func (s *serialLines) Close() error {
	s.feed.mu.Lock()
	first := !s.feed.closed
	s.feed.mu.Unlock()
	err := s.feed.Close()
	if first {
		serialPorts.give(s.port)
	}
	return err
}

// listenFor is how long one read of the port waits: at most so much later Close returns.
const listenFor = 100 * time.Millisecond

// listen reads the port until ctx's end, or until it fails.
func (s *serialLines) listen(ctx context.Context) error {
	port, err := serial.Open(&serial.Config{Address: s.port, BaudRate: s.mode.baud, DataBits: 8, StopBits: s.mode.stop,
		Parity:  s.mode.letter(),
		Timeout: listenFor})
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: is the agent's user in the port's group, mostly dialout?", err)
	case err != nil:
		return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
	}
	defer port.Close()
	s.ready()
	r := &lineReader{feed: &s.feed, mapping: s.mapping,
		log: &limitedLog{log: slog.Default().With("port", s.port)}}
	lines := &lineSplitter{on: func(line []byte) { r.line(ctx, line) }}
	buf := make([]byte, 1024)
	for first := true; ctx.Err() == nil; {
		n, err := port.Read(buf)
		switch {
		case errors.Is(err, serial.ErrTimeout):
			continue
		case err == nil && n == 0:
			return fmt.Errorf("%w: the port hung up", hal.ErrNoDevice)
		case err != nil:
			return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
		}
		part := buf[:n]
		if first { // the first line may have begun before
			if part, first = afterLine(part); first {
				continue
			}
		}
		_, _ = lines.Write(part) // never fails
	}
	return ctx.Err()
}

// afterLine returns what follows the first end of a line, and whether there is none.
func afterLine(b []byte) (rest []byte, none bool) {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			return b[i+1:], false
		}
	}
	return nil, true
}
