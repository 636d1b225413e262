package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// The kernel's PWM outputs are folders below /sys/class/pwm, one for each
// controller and, once it is exported, one for each output (Documentation/ABI/
// testing/sysfs-class-pwm). All times are in ns.

// pwmReady is how long an output's files may take to be ours: udev sets their
// group after they appeared.
const pwmReady = 2 * time.Second

const enablePWM = "is PWM enabled? On a Raspberry Pi: dtoverlay=pwm in /boot/firmware/config.txt"

// pwmChips lists the controllers by number.
func (b *Board) pwmChips() []string {
	chips, _ := filepath.Glob(filepath.Join(b.sys, "class/pwm/pwmchip*")) // the pattern is well formed
	slices.SortFunc(chips, func(x, y string) int {
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		return strings.Compare(x, y)
	})
	return chips
}

// PWMs lists the outputs of all controllers.
func (b *Board) PWMs() []string {
	var names []string
	for _, c := range b.pwmChips() {
		n, err := readNumber(filepath.Join(c, "npwm"))
		for i := int64(0); err == nil && i < min(n, 64); i++ {
			names = append(names, fmt.Sprintf("%s:%d", filepath.Base(c), i))
		}
	}
	return names
}

// OpenPWM opens an output by controller and number, "pwmchip0:1". In place of
// pwmchip0, whose number may be another after a reboot, the controller's device
// may stand: "3f20c000.pwm:1". The output keeps what it does. One user at a
// time has it.
func (b *Board) OpenPWM(name string) (hal.PWM, error) {
	chip, number, ok := strings.Cut(name, ":")
	n, err := strconv.ParseUint(number, 10, 8)
	if !ok || err != nil || chip == "" || strings.Contains(chip, "/") {
		return nil, fmt.Errorf("PWM %q: %w: want a name such as pwmchip0:0", name, hal.ErrNoDevice)
	}
	folder := ""
	for _, c := range b.pwmChips() {
		device, _ := os.Readlink(filepath.Join(c, "device")) // "" for a controller without one
		if filepath.Base(c) == chip || device != "" && filepath.Base(device) == chip {
			folder = c
		}
	}
	if folder == "" {
		return nil, fmt.Errorf("PWM %q: %w: there is no such controller; %s", name, hal.ErrNoDevice, enablePWM)
	}
	if have, err := readNumber(filepath.Join(folder, "npwm")); err != nil || int64(n) >= have {
		return nil, fmt.Errorf("PWM %q: %w: the controller has %d outputs", name, hal.ErrNoDevice, have)
	}
	p := &pwm{board: b, name: name, folder: filepath.Join(folder, fmt.Sprintf("pwm%d", n))}
	if !p.reserve() {
		return nil, fmt.Errorf("PWM %q: in use", name)
	}
	if err := p.export(folder, n); err != nil {
		_ = p.Close() // err says more
		return nil, fmt.Errorf("PWM %q: %w", name, err)
	}
	return p, nil
}

// A pwm is one exported output.
type pwm struct {
	board  *Board
	name   string
	folder string

	mu     sync.Mutex // guards closed, and the files' order
	closed bool
}

// reserve takes the output unless it is taken.
func (p *pwm) reserve() bool {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	if p.board.pwms[p.folder] {
		return false
	}
	p.board.pwms[p.folder] = true
	return true
}

// export makes the output's files, and waits for udev to hand them to our group, up
// to pwmReady. The board's lock is not held.
func (p *pwm) export(chip string, n uint64) error {
	if _, err := os.Stat(p.folder); err == nil {
		return nil // exported before
	}
	if err := p.board.put(filepath.Join(chip, "export"), strconv.FormatUint(n, 10)); err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: add the user to the group of the file", err)
		}
		return err
	}
	for end := time.Now().Add(pwmReady); ; time.Sleep(10 * time.Millisecond) {
		f, err := os.OpenFile(filepath.Join(p.folder, "enable"), os.O_WRONLY, 0)
		if err == nil {
			return f.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// Set writes only what changes. The kernel refuses a pulse longer than the
// period at every single write, hence the order.
func (p *pwm) Set(period, width time.Duration) error {
	if period <= 0 || width < 0 || width > period {
		return fmt.Errorf("PWM %s: pulses of %v every %v: want 0 to one period", p.name, width, period)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old, _, err := p.get()
	if err != nil {
		return err
	}
	order := []struct {
		file string
		v    time.Duration
	}{{"period", period}, {"duty_cycle", width}, {"enable", 1}}
	if width <= old && old > 0 {
		order[0], order[1] = order[1], order[0]
	}
	for _, o := range order {
		if err := p.board.put(filepath.Join(p.folder, o.file), strconv.FormatInt(int64(o.v), 10)); err != nil {
			return fmt.Errorf("PWM %s: %w", p.name, err)
		}
	}
	return nil
}

func (p *pwm) Get() (period, width time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.get()
}

func (p *pwm) get() (period, width time.Duration, err error) {
	if p.closed {
		return 0, 0, fmt.Errorf("PWM %s: %w", p.name, os.ErrClosed)
	}
	var v [3]int64
	for i, file := range []string{"period", "duty_cycle", "enable"} {
		if v[i], err = readNumber(filepath.Join(p.folder, file)); err != nil {
			if _, gone := os.Stat(p.folder); gone != nil {
				err = fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
			}
			return 0, 0, fmt.Errorf("PWM %s: %w", p.name, err)
		}
	}
	if v[2] == 0 {
		v[1] = 0
	}
	return time.Duration(v[0]), time.Duration(v[1]), nil
}

// Close leaves the output exported and running: an unexport may stop it.
func (p *pwm) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	delete(p.board.pwms, p.folder)
	return nil
}

// readNumber reads a file of the kernel with one number.
func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// writeFile writes a file of the kernel, which makes none.
func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
