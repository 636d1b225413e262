package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/bmp3"
)

// A Twin is a simulated chip that measures a Waveform. Several goroutines may
// use it.
type Twin interface {
	Chip
	// SetAir replaces what the chip measures from now on.
	SetAir(air Waveform)
	// PowerCycle puts the chip into the state after power-on, as a brown-out
	// does: its settings are lost, and the bus shows no error.
	PowerCycle()
}

// twin is what all twins have.
type twin struct {
	now func() time.Time
	mu  sync.Mutex // guards air and what the chip has beside
	air Waveform
}

// SetAir replaces what the chip measures from now on.
func (t *twin) SetAir(air Waveform) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.air = air
}

// A Place is a chip at an address of a bus.
type Place struct {
	Chip    string // as its driver is named
	Address uint16
	Bus     string // "": DefaultBus
}

// A kind is what can be put at a Place.
type kind struct {
	address uint16 // the chip's usual one
	make    func(seed uint64, air Waveform, now func() time.Time) Twin
}

// What chips have that measure no air.
const (
	shunt   = 0.1 // Ω, as on the usual boards
	farAway = 750 // mm
)

// kinds are the twins by their drivers' names. An LSM303, which is two chips, has
// its own Attach.
var kinds = map[string]kind{
	"ads1015": {0x48, stillOf(NewADS1015)},
	"ads1115": {0x48, stillOf(NewADS1115)},
	"bh1750":  {0x23, newBH1750},
	"bme280":  {0x76, func(seed uint64, air Waveform, now func() time.Time) Twin { return NewBME280(seed, air, now) }},
	"bmp388":  {0x77, bmp3Of(bmp3.IDBMP388)},
	"bmp390":  {0x77, bmp3Of(bmp3.IDBMP390)},
	"dps310":  {0x77, newDPS310},
	"ina219":  {0x40, stillOf(func() *INA { return NewINA219(shunt) })},
	"ina226":  {0x40, stillOf(func() *INA { return NewINA226(shunt) })},
	"lm75":    {0x48, thermometerOf(&lm75Kind)},
	"mcp9808": {0x18, thermometerOf(&mcp9808Kind)},
	"mpu6050": {0x68, stillOf(NewMPU6050)},
	"pca9685": {0x40, stillOf(NewPCA9685)},
	"scd4x":   {0x62, newSCD4x},
	"sht3x":   {0x44, newSHT3x},
	"sht4x":   {0x44, newSHT4x},
	"tmp102":  {0x48, thermometerOf(&tmp102Kind)},
	"tmp105":  {0x48, thermometerOf(&tmp105Kind)},
	"vl53l0x": {0x29, stillOf(func() *VL53L0X { return NewVL53L0X(farAway) })},
}

// A powered chip measures no Waveform: what its inputs have is set at the chip.
type powered interface {
	Chip
	PowerCycle()
}

// still is a powered chip as a Twin.
type still struct{ powered }

// SetAir does nothing.
func (still) SetAir(Waveform) {}

func stillOf[C powered](make func() C) func(uint64, Waveform, func() time.Time) Twin {
	return func(uint64, Waveform, func() time.Time) Twin { return still{make()} }
}

// Chips lists what can be put at a Place.
func Chips() []string { return slices.Sorted(maps.Keys(kinds)) }

// NewTwin returns a chip, named as its driver is, in the state after power-on.
// The seed chooses its calibration. now is its clock; nil is time.Now. An error
// wraps hal.ErrNoDevice.
func NewTwin(chip string, seed uint64, air Waveform, now func() time.Time) (Twin, error) {
	k, ok := kinds[chip]
	if !ok {
		return nil, fmt.Errorf("simulated chip %q: %w: there are %s", chip, hal.ErrNoDevice,
			strings.Join(Chips(), ", "))
	}
	if now == nil {
		now = time.Now
	}
	return k.make(seed, air, now), nil
}

// ParsePlace reads "sht4x", "sht4x@0x45" or "sht4x@0x45@/dev/i2c-1".
func ParsePlace(s string) (Place, error) {
	chip, rest, _ := strings.Cut(s, "@")
	at, bus, named := strings.Cut(rest, "@")
	k, ok := kinds[chip]
	if !ok {
		return Place{}, fmt.Errorf("%q, want one of %s", s, strings.Join(Chips(), ", "))
	}
	p := Place{Chip: chip, Address: k.address, Bus: bus}
	if at != "" {
		n, err := strconv.ParseUint(at, 0, 7)
		if err != nil || n < 0x08 || n > 0x77 {
			return Place{}, fmt.Errorf("%q, want an address from 0x08 to 0x77 after @", s)
		}
		p.Address = uint16(n)
	}
	if at == "" && rest != "" || named && bus == "" {
		return Place{}, fmt.Errorf("%q, want chip, chip@address or chip@address@bus", s)
	}
	return p, nil
}

// Put puts a new chip at a place, in place of what is there, and returns it. Its
// bus is made if the board has none of that name.
func (b *Board) Put(p Place) (Twin, error) {
	if p.Bus == "" {
		p.Bus = DefaultBus
	}
	// Each chip differs a little from the next.
	seed := mix(b.o.Seed ^ uint64(p.Address)<<32)
	c, err := NewTwin(p.Chip, seed, b.o.Air, b.o.Now)
	if err != nil {
		return nil, err
	}
	bus := b.Bus(p.Bus)
	if bus == nil {
		bus = b.Add(NewBus(p.Bus))
	}
	bus.Attach(p.Address, c)
	return c, nil
}
