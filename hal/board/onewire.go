package board

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/form"
)

// The kernel names a chip's folder by family and serial number
// (Documentation/w1/w1-generic); its masters are w1_bus_masterN.
func oneWireChip(name string) bool {
	family, serial, _ := strings.Cut(name, "-")
	const hex form.Set = "09af"
	return hex.Is(family, 2, 2) && hex.Is(serial, 12, 12)
}

func oneWireFile(name string) bool { return form.Set("az09__").Is(name, 1, 32) }

// maxOneWire bounds what is read of a file, in bytes; w1_slave has 75.
const maxOneWire = 4096

const enableOneWire = "is 1-Wire enabled? On a Raspberry Pi: dtoverlay=w1-gpio in /boot/firmware/config.txt"

func (b *Board) oneWire() string { return filepath.Join(b.sys, "bus/w1/devices") }

// OneWireChips lists what the kernel has found; it searches its buses every
// ten seconds. A machine without 1-Wire has none.
func (b *Board) OneWireChips() ([]string, error) {
	all, err := os.ReadDir(b.oneWire()) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("1-Wire: %w", err)
	}
	var chips []string
	for _, e := range all {
		if oneWireChip(e.Name()) {
			chips = append(chips, e.Name())
		}
	}
	return chips, nil
}

// ReadOneWire reads a file of a chip.
func (b *Board) ReadOneWire(chip, file string) ([]byte, error) {
	if !oneWireChip(chip) || !oneWireFile(file) {
		return nil, fmt.Errorf("1-Wire %q: %w: want a name such as 28-00000a1b2c3d", chip, hal.ErrNoDevice)
	}
	folder := filepath.Join(b.oneWire(), chip)
	f, err := os.Open(filepath.Join(folder, file))
	if err != nil {
		if _, gone := os.Stat(folder); errors.Is(gone, fs.ErrNotExist) {
			return nil, fmt.Errorf("1-Wire %s: %w: no such chip was found; %s", chip, hal.ErrNoDevice, enableOneWire)
		}
		return nil, fmt.Errorf("1-Wire %s: %w", chip, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxOneWire))
	if err != nil {
		return nil, fmt.Errorf("1-Wire %s: %w", chip, err)
	}
	return text, nil
}
