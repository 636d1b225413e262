package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

const netName = "n0" // QEMU's name of the link

// knobLimit is how long QEMU may take to answer: it does at once, unless its
// thread waits for the host's processor.
const knobLimit = time.Minute

// SetTemperature sets what a chip measures, in °C; it takes thousandths.
func (m *Machine) SetTemperature(ctx context.Context, chip string, celsius float64) error {
	return m.qmp(ctx, "qom-set", map[string]any{"path": "/machine/peripheral/" + chip, "property": "temperature",
		"value": int(math.Round(celsius * 1000))})
}

// SetLink cuts the network, or mends it. What is sent while it is cut is lost.
func (m *Machine) SetLink(ctx context.Context, up bool) error {
	return m.qmp(ctx, "set_link", map[string]any{"name": netName, "up": up})
}

// Registers of the GPIO lines 0 to 31, from Board.lines (BCM2835 ARM Peripherals, table 6-1).
const (
	setRegister   = 0x1c
	clearRegister = 0x28
	levelRegister = 0x34
)

// SetInput sets the level that is applied to a line. The emulated board has no
// other way to do it than the registers by which a program would: it is for lines
// that the device has as inputs.
func (m *Machine) SetInput(ctx context.Context, line int, high bool) error {
	register := uint64(clearRegister)
	if high {
		register = setRegister
	}
	mask, err := lineMask(line)
	if err != nil {
		return err
	}
	_, err = m.qtest(ctx, fmt.Sprintf("writel %#x %#x", m.Board.lines+register, mask))
	return err
}

// Level reads the level of a line.
func (m *Machine) Level(ctx context.Context, line int) (high bool, err error) {
	mask, err := lineMask(line)
	if err != nil {
		return false, err
	}
	answer, err := m.qtest(ctx, fmt.Sprintf("readl %#x", m.Board.lines+levelRegister))
	if err != nil {
		return false, err
	}
	levels, err := strconv.ParseUint(answer, 0, 64)
	return levels&uint64(mask) != 0, err
}

func lineMask(line int) (uint32, error) {
	if line < 0 || line > 31 {
		return 0, fmt.Errorf("line %d: want 0 to 31", line)
	}
	return 1 << line, nil
}

// dial connects to one of QEMU's sockets, of which each has one client at a time.
func (m *Machine) dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", m.path(socket))
	if err != nil {
		return nil, fmt.Errorf("%w: does the device run?", err)
	}
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(knobLimit)
	}
	return c, c.SetDeadline(end)
}

// qmp gives QEMU's monitor a command and waits for its answer.
func (m *Machine) qmp(ctx context.Context, command string, args map[string]any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.dial(ctx, qmpSocket)
	if err != nil {
		return err
	}
	defer c.Close()
	in, out := json.NewDecoder(c), json.NewEncoder(c)
	var greeting struct{ QMP *json.RawMessage }
	if err := in.Decode(&greeting); err != nil || greeting.QMP == nil {
		return fmt.Errorf("qmp: no greeting: %w", err)
	}
	for _, do := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": command, "arguments": args}} {
		if err := out.Encode(do); err != nil {
			return fmt.Errorf("qmp: %w", err)
		}
		if err := answer(in); err != nil {
			return fmt.Errorf("qmp: %v: %w", do["execute"], err)
		}
	}
	return nil
}

// answer reads past events to the answer of a command.
func answer(in *json.Decoder) error {
	for {
		var a struct {
			Event  string
			Return *json.RawMessage
			Error  *struct{ Class, Desc string }
		}
		switch err := in.Decode(&a); {
		case err != nil:
			return err
		case a.Error != nil:
			return errors.New(a.Error.Desc)
		case a.Return != nil:
			return nil
		}
	}
}

// qtest gives QEMU a command of its test protocol and returns what follows OK.
func (m *Machine) qtest(ctx context.Context, command string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.dial(ctx, qtestSocket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return "", fmt.Errorf("qtest: %w", err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("qtest: %w", err)
	}
	value, ok := strings.CutPrefix(strings.TrimSpace(line), "OK")
	if !ok {
		return "", fmt.Errorf("qtest: %s: %s", command, strings.TrimSpace(line))
	}
	return strings.TrimSpace(value), nil
}
