package sensor

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/hal"
)

// An spiDriver is what the driver of a chip is made of that gives one frame of
// bytes whenever it is selected.
type spiDriver struct {
	Driver // without the option device
	clock  hal.SPIOptions
	bytes  int // of a frame
	set    func(o *options) spiChip
}

// An spiChip is what a driver knows of its chip. One goroutine at a time calls it.
type spiChip interface {
	channels() []hal.Channel
	// wait returns when a frame can be read.
	wait(ctx context.Context) error
	// parse makes values of a frame, one for each channel. It keeps no reference
	// to it.
	parse(frame []byte) ([]hal.Value, error)
}

func (d spiDriver) driver() driver {
	d.Options = append([]Option{
		{"device", "string", "", "chip select, such as /dev/spidev0.0; the board's first if left out"},
	}, d.Options...)
	return driver{Driver: d.Driver, set: func(o *options) opener {
		s := &spiSensor{of: &d, name: o.text("device", ""), chip: d.set(o)}
		return s.open
	}}
}

// An spiSensor is an open chip. A transfer can wait for others on its bus, hence
// calls.
type spiSensor struct {
	calls
	of   *spiDriver
	name string
	chip spiChip
	dev  hal.SPIDevice
}

func (s *spiSensor) open(ctx context.Context, b hal.Board) (hal.Sensor, error) {
	o, ok := b.(hal.SPIOpener)
	if !ok {
		return nil, fmt.Errorf("%w: the board has no SPI", hal.ErrNoDevice)
	}
	if s.name == "" {
		all := o.SPIDevices()
		if len(all) == 0 {
			return nil, fmt.Errorf("%w: the board has no SPI bus; %s", hal.ErrNoDevice, hal.EnableSPI)
		}
		s.name = all[0]
	}
	var err error
	if s.dev, err = o.OpenSPI(s.name, s.of.clock); err != nil {
		return nil, err
	}
	s.release = s.dev.Close
	// The first reading shows that the chip is there.
	if _, err := s.Read(ctx); err != nil && !answered(err) {
		_ = s.Close() // the reading's error says more
		return nil, err
	}
	return s, nil
}

func (s *spiSensor) Channels() []hal.Channel { return s.chip.channels() }

// Read clocks one frame out of the chip; one that contradicts itself is asked for
// once more.
func (s *spiSensor) Read(ctx context.Context) ([]hal.Value, error) {
	var vals []hal.Value
	err := s.do(ctx, func() (err error) {
		for range triesDamaged {
			if vals, err = s.frame(ctx); !errors.Is(err, ErrImplausible) {
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", s.of.Name, s.name, err)
	}
	return vals, nil
}

func (s *spiSensor) frame(ctx context.Context) ([]hal.Value, error) {
	if err := s.chip.wait(ctx); err != nil {
		return nil, err
	}
	frame := make([]byte, s.of.bytes)
	if err := s.dev.Tx(nil, frame); err != nil {
		return nil, err
	}
	return s.chip.parse(frame)
}

// Close gives the chip select back, or leaves that to a reading that still hangs.
func (s *spiSensor) Close() error { return s.close() }
