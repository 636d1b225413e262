package sensor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/tidemill/tidemill/hal"
)

// A modbusLine is a serial port or a TCP connection, which several sensors share: one
// request at a time.
type modbusLine struct {
	endpoint, port string
	mode           serialMode
	timeout, pause time.Duration

	users int // guarded by the registry's lock

	turn   chan struct{} // holds one while a request is under way; guards the rest
	client *modbus.ModbusClient
	last   time.Time    // the end of the last request
	alien  *atomic.Bool // an answer was of another protocol than Modbus
}

func (l *modbusLine) name() string {
	if l.endpoint != "" {
		return l.endpoint
	}
	return l.port
}

// modbusLines are those in use, by name.
var modbusLines = lineRegistry{lines: map[string]*modbusLine{}}

type lineRegistry struct {
	mu    sync.Mutex
	lines map[string]*modbusLine
}

// take returns the line of that name, which must be set up alike.
func (r *lineRegistry) take(as *modbusLine) (*modbusLine, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines[as.name()]
	if l == nil {
		l = &modbusLine{endpoint: as.endpoint, port: as.port, mode: as.mode, timeout: as.timeout, pause: as.pause,
			turn: make(chan struct{}, 1), alien: &atomic.Bool{}}
		if l.port != "" {
			if err := serialPorts.take(l.port); err != nil {
				return nil, err
			}
		}
		r.lines[as.name()] = l
	} else if l.mode != as.mode && l.port != "" {
		return nil, fmt.Errorf("%s: another sensor uses it with %v, this one wants %v", l.port, l.mode, as.mode)
	}
	l.users++
	return l, nil
}

// give closes a line that nobody uses any more.
func (r *lineRegistry) give(l *modbusLine) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.users--; l.users > 0 {
		return nil
	}
	delete(r.lines, l.name())
	l.turn <- struct{}{} // a request of another sensor that ended is not under way any more
	defer func() { <-l.turn }()
	l.drop()
	if l.port != "" {
		serialPorts.give(l.port)
	}
	return nil
}

// ask runs one request, and once more if the answer was damaged or did not fit.
func (l *modbusLine) ask(ctx context.Context, unit byte, q modbusRequest) ([]uint16, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	words, err := l.try(ctx, unit, q)
	if errors.Is(err, ErrCRC) || errors.Is(err, ErrProtocol) {
		words, err = l.try(ctx, unit, q)
	}
	return words, err
}

func (l *modbusLine) try(ctx context.Context, unit byte, q modbusRequest) ([]uint16, error) {
	if err := pause(ctx, time.Until(l.last.Add(l.pause))); err != nil {
		return nil, err
	}
	if err := l.connect(); err != nil {
		return nil, err
	}
	l.alien.Store(false)
	words, err := l.request(unit, q)
	l.last = time.Now()
	if err == nil {
		return words, nil
	}
	if err = l.explain(err, unit); !errors.Is(err, ErrException) {
		// A late answer must not be taken for that of the next request.
		l.drop()
	}
	return nil, err
}

// request is the library's call.
func (l *modbusLine) request(unit byte, q modbusRequest) ([]uint16, error) {
	if err := l.client.SetUnitId(unit); err != nil {
		return nil, err
	}
	address, count := uint16(q.address), uint16(q.count)
	var bits []bool
	var err error
	switch q.table {
	case "holding":
		return l.client.ReadRegisters(address, count, modbus.HOLDING_REGISTER)
	case "input":
		return l.client.ReadRegisters(address, count, modbus.INPUT_REGISTER)
	case "coil":
		bits, err = l.client.ReadCoils(address, count)
	case "discrete":
		bits, err = l.client.ReadDiscreteInputs(address, count)
	}
	words := make([]uint16, len(bits))
	for i, b := range bits {
		if b {
			words[i] = 1
		}
	}
	return words, err
}

// connect opens the port or connection if that was not done, or after a fault.
func (l *modbusLine) connect() error {
	if l.client != nil {
		return nil
	}
	conf := modbus.ClientConfiguration{Timeout: l.timeout, Logger: log.New(alienWriter{l.alien}, "", 0)}
	if l.endpoint != "" {
		conf.URL = "tcp://" + l.endpoint
	} else {
		conf.URL, conf.Speed, conf.DataBits = "rtu://"+l.port, uint(l.mode.baud), 8
		conf.StopBits = uint(l.mode.stop)
		conf.Parity = map[string]uint{"none": modbus.PARITY_NONE, "even": modbus.PARITY_EVEN,
			"odd": modbus.PARITY_ODD}[l.mode.parity]
	}
	c, err := modbus.NewClient(&conf)
	if err == nil {
		err = c.Open()
	}
	switch {
	case err == nil:
		l.client = c
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: is the agent's user in the port's group, mostly dialout?", err)
	}
	return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
}

func (l *modbusLine) drop() {
	if l.client != nil {
		_ = l.client.Close() // it is given up; nothing was written that could be lost
		l.client = nil
	}
}

// alienWriter is the library's log: it skips answers of another protocol and tells of
// it there alone.
type alienWriter struct{ seen *atomic.Bool }

func (w alienWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("unexpected protocol id")) {
		w.seen.Store(true)
	}
	return len(p), nil
}

// explain wraps a library's error in its kind.
func (l *modbusLine) explain(err error, unit byte) error {
	switch {
	case errors.Is(err, modbus.ErrBadCRC):
		return fmt.Errorf("%w: %w", ErrCRC, err)
	case errors.Is(err, modbus.ErrProtocolError), errors.Is(err, modbus.ErrShortFrame),
		errors.Is(err, modbus.ErrBadUnitId), errors.Is(err, modbus.ErrBadTransactionId),
		errors.Is(err, modbus.ErrUnknownProtocolId):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case errors.Is(err, modbus.ErrRequestTimedOut) && l.alien.Load():
		return fmt.Errorf("%w: %w", ErrProtocol, modbus.ErrUnknownProtocolId)
	case errors.Is(err, modbus.ErrRequestTimedOut) && l.endpoint != "":
		return fmt.Errorf("%w: no answer within %v", ErrNotReady, l.timeout)
	case errors.Is(err, modbus.ErrRequestTimedOut):
		return fmt.Errorf("%w: no unit %d answers within %v at %v", hal.ErrNoDevice, unit, l.timeout, l.mode)
	case errors.Is(err, modbus.ErrUnexpectedParameters), errors.Is(err, modbus.ErrConfigurationError):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	for _, refused := range []error{modbus.ErrIllegalFunction, modbus.ErrIllegalDataAddress, modbus.ErrIllegalDataValue,
		modbus.ErrServerDeviceFailure, modbus.ErrAcknowledge, modbus.ErrServerDeviceBusy, modbus.ErrMemoryParityError,
		modbus.ErrGWPathUnavailable, modbus.ErrGWTargetFailedToRespond} {
		if errors.Is(err, refused) {
			return fmt.Errorf("%w: %w", ErrException, err)
		}
	}
	if strings.HasPrefix(err.Error(), "unknown exception code") {
		return fmt.Errorf("%w: %w", ErrException, err)
	}
	return fmt.Errorf("%w: %w", hal.ErrNoDevice, err) // the port or connection broke
}
