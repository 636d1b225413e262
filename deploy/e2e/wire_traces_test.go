package e2e

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/hal/sim"
)

// wireStart is when the traces begin, in epoch ms: a morning in September 2026.
const wireStart = 1_790_000_000_000

// A wireReading is one reading, at ms after wireStart.
type wireReading struct {
	sensor   string
	channels []telemetry.Channel
	at       int64
	values   []telemetry.Value
}

// A wireTrace is what a device reads. It is the same each time.
type wireTrace struct {
	name     string
	every    time.Duration // between two batches: spool.flush_every
	full     bool          // its batches are of many readings
	readings func(put func(wireReading))
}

var wireTraces = []wireTrace{
	{"weather, 4 channels at 1 Hz", time.Minute, true, weatherTrace},
	{"10 sensors at 10 Hz", 5 * time.Second, true, fastTrace},
	{"power meter, 12 channels each 10 s", time.Minute, true, meterTrace},
	{"door contact, on change", 5 * time.Second, false, doorTrace},
	{"host metrics, 10 channels each 10 s", time.Minute, true, hostTrace},
}

// step rounds as a driver does, to n steps a unit.
func step(x, n float64) telemetry.Value { return telemetry.FloatValue(math.Round(x*n) / n) }

func float(name, unit string) telemetry.Channel {
	return telemetry.Channel{Name: name, Unit: unit, Kind: telemetry.Float}
}

func integer(name, unit string) telemetry.Channel {
	return telemetry.Channel{Name: name, Unit: unit, Kind: telemetry.Int}
}

// weatherTrace is 20 minutes of a BME280 and a BH1750 outdoors in the simulated weather,
// in the steps of their drivers, with the noise of the chips (BME280's data sheet, table
// 5 to 7: 0.005 °C, 0.02 %RH, 0.2 Pa with oversampling) and timers that are late by 0 to 2 ms.
func weatherTrace(put func(wireReading)) {
	r := rand.New(rand.NewPCG(16, 1))
	air := sim.Weather(16)
	chs := []telemetry.Channel{float("temperature", "°C"), float("humidity", "%RH"), float("pressure", "Pa"),
		float("light", "lx")}
	for i := range int64(20 * 60) {
		at := i*1000 + r.Int64N(3)
		e := air(time.UnixMilli(wireStart + at))
		put(wireReading{"weather", chs, at, []telemetry.Value{step(e.Temperature+0.005*r.NormFloat64(), 100),
			step(e.Humidity+0.02*r.NormFloat64(), 1000), step(e.Pressure+0.2*r.NormFloat64(), 100),
			step(math.Round(e.Light*1.2)/1.2, 100)}}) // 1.2 counts a lx
	}
}

// fastTrace is 20 s of ten sensors of one channel, 12 bit each (an ADS1015 at 2 mV a
// step): a slow wave with 1 step of noise.
func fastTrace(put func(wireReading)) {
	r := rand.New(rand.NewPCG(16, 2))
	chs := []telemetry.Channel{float("voltage", "V")}
	for i := range int64(200) {
		for k := range 10 {
			x := 1.5 + 0.5*math.Sin(float64(i)/300+float64(k)) + 0.002*r.NormFloat64()
			put(wireReading{fmt.Sprintf("ai%d", k), chs, i*100 + r.Int64N(3), []telemetry.Value{step(x, 500)}})
		}
	}
}

// meterTrace is half an hour of a meter of three phases, in the steps of an SDM630's
// display: voltages move by 0.1 V, loads go on and off.
func meterTrace(put func(wireReading)) {
	r := rand.New(rand.NewPCG(16, 3))
	var chs []telemetry.Channel
	for _, phase := range []string{"1", "2", "3"} {
		chs = append(chs, float("voltage"+phase, "V"), float("current"+phase, "A"), float("power"+phase, "W"))
	}
	chs = append(chs, float("frequency", "Hz"), float("imported", "kWh"), float("exported", "kWh"))
	load, energy := [3]float64{300, 120, 900}, 12345.67
	for i := range int64(180) {
		values := make([]telemetry.Value, 0, len(chs))
		for k := range load {
			if r.IntN(60) == 0 {
				load[k] = 50 + 2000*r.Float64()
			}
			volt := 230 + 1.5*math.Sin(float64(i)/40+float64(k)) + 0.2*r.NormFloat64()
			watt := load[k] * (1 + 0.002*r.NormFloat64())
			energy += watt / 360e3
			values = append(values, step(volt, 10), step(watt/volt/0.95, 1000), step(watt, 10))
		}
		put(wireReading{"meter", chs, i*10_000 + r.Int64N(3), append(values, step(50+0.01*r.NormFloat64(), 100),
			step(energy, 100), step(8.41, 100))})
	}
}

// doorTrace is a day of a door that is opened 40 times, for some seconds each.
func doorTrace(put func(wireReading)) {
	r := rand.New(rand.NewPCG(16, 4))
	chs := []telemetry.Channel{{Name: "level", Kind: telemetry.Bool}}
	for i := range int64(40) {
		at := i*36*60_000 + r.Int64N(30*60_000)
		put(wireReading{"door", chs, at, []telemetry.Value{telemetry.BoolValue(true)}})
		put(wireReading{"door", chs, at + 2000 + r.Int64N(20_000), []telemetry.Value{telemetry.BoolValue(false)}})
	}
}

// hostTrace is half an hour of the driver host on a device that does little.
func hostTrace(put func(wireReading)) {
	r := rand.New(rand.NewPCG(16, 5))
	chs := []telemetry.Channel{float("cpu_temp", "°C"), float("cpu_used", "%"), float("load1", ""),
		integer("mem_used", "B"), integer("mem_available", "B"), integer("disk_used", "B"), integer("disk_free", "B"),
		integer("net_rx", "B"), integer("net_tx", "B"), float("uptime", "s")}
	const memory, disk, page = 512 << 20, 16 << 30, 4096
	free, room, load, in, out := int64(300<<20), int64(11<<30), 0.08, int64(0), int64(0)
	for i := range int64(180) {
		at := i*10_000 + r.Int64N(3)
		free, in, out = free+page*(r.Int64N(41)-20), in+60*r.Int64N(40), out+60*r.Int64N(30)
		room -= page * (1 + r.Int64N(3))
		load = 0.85*load + 0.03*r.Float64()
		put(wireReading{"host", chs, at, []telemetry.Value{
			step(48.3+0.5*r.NormFloat64(), 10), step(0.4+r.ExpFloat64(), 10), step(load, 100),
			telemetry.IntValue(memory - free), telemetry.IntValue(free),
			telemetry.IntValue(disk - room), telemetry.IntValue(room),
			telemetry.IntValue(in), telemetry.IntValue(out), step(3600+float64(at)/1000, 100)}})
	}
}
