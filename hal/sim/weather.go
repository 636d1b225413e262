package sim

import (
	"math"
	"time"
)

// Env is what the air around a chip is like.
type Env struct {
	Temperature float64 // °C
	Humidity    float64 // %RH
	Pressure    float64 // Pa
	CO2         float64 // ppm
	Light       float64 // lx
}

// A Waveform says what the air is like at a time. It must be a pure function,
// since a chip may ask for any time again.
type Waveform func(t time.Time) Env

// Constant is air that never changes. Values a BME280 can't measure are
// allowed: its converters then stop at their ends.
func Constant(e Env) Waveform { return func(time.Time) Env { return e } }

// Weather is the outdoor air of a temperate coast: a year's and a day's wave of
// temperature, fronts of a few days that move all three quantities, the air
// tide of half a day, and noise from minute to minute and second to second.
// The same seed gives the same weather at the same time, whoever asks and in
// whichever order.
//
// Values stay within the BME280's range (-40 to 85 °C, 0 to 100 %RH, 300 to
// 1100 hPa; datasheet section 1).
func Weather(seed uint64) Waveform {
	// Each place differs a little; the sizes are guesses at a mild climate.
	mean := 11 + 4*unit(seed, 1, 0)
	year := 8 + 2*unit(seed, 2, 0)
	day := 4 + 1.5*unit(seed, 3, 0)
	level := 101325 + 150*unit(seed, 4, 0)
	return func(t time.Time) Env {
		s := float64(t.Unix()) + float64(t.Nanosecond())/1e9
		const dayLen, yearLen = 86400, 365.2425 * 86400
		front := smooth(seed, 10, s/(3*dayLen))
		cloud := smooth(seed, 11, s/(5*3600))
		gust := smooth(seed, 12, s/60)
		flicker := smooth(seed, 13, s)

		// Warmest in late July and at 15:00, as UTC has it.
		temp := mean -
			year*math.Cos(2*math.Pi*(s/yearLen-0.06)) -
			day*(0.7+0.3*cloud)*math.Cos(2*math.Pi*(s/dayLen-0.125)) +
			3*front + cloud + 0.15*gust + 0.02*flicker
		// Air that warms gets drier; a front brings rain.
		hum := 68 - 2.2*(temp-mean)*0.6 - 14*front + 6*cloud + 0.5*gust + 0.05*flicker
		pres := level + 1400*front + 120*math.Cos(4*math.Pi*(s/dayLen-10.0/24)) +
			40*cloud + 4*gust + 1*flicker
		return Env{
			Temperature: min(max(temp, -40), 85),
			Humidity:    min(max(hum, 5), 100),
			Pressure:    min(max(pres, 30000), 110000),
			CO2:         425 + 12*cloud + 2*gust,
			Light:       daylight(s, cloud),
		}
	}
}

// daylight is 0.01 lx at night and up to 60 klx at noon, less under clouds (-1
// is a clear sky, 1 a covered one).
func daylight(s, cloud float64) float64 {
	const dayLen = 86400
	sun := -math.Cos(2 * math.Pi * s / dayLen)
	return 0.01 + 60000*max(sun, 0)*max(sun, 0)*(0.55-0.45*cloud)
}

// Room is the air of a heated room: 25 °C and 3.5 °C up and down in two minutes,
// so that whoever tries a rule sees it begin and end, 45 %RH and the pressure of
// Weather. The same seed gives the same air at the same time.
func Room(seed uint64) Waveform {
	outside := Weather(seed)
	phase := unit(seed, 5, 0)
	return func(t time.Time) Env {
		s := float64(t.Unix()%86400) + float64(t.Nanosecond())/1e9
		heater := math.Sin(math.Pi * (s/60 + phase))
		return Env{
			Temperature: 25 + 3.5*heater + 0.1*smooth(seed, 20, s/3),
			Humidity:    45 - 4*heater + 2*smooth(seed, 21, s/40),
			Pressure:    outside(t).Pressure,
			CO2:         900 - 250*heater + 40*smooth(seed, 22, s/20),
			Light:       320 + 60*heater + 4*smooth(seed, 23, s/5),
		}
	}
}

// smooth is value noise in [-1, 1]: random values at whole x, joined by a cubic
// with level ends, so that it has no steps.
func smooth(seed, lane uint64, x float64) float64 {
	i := math.Floor(x)
	f := x - i
	a, b := unit(seed, lane, int64(i)), unit(seed, lane, int64(i)+1)
	return a + (b-a)*f*f*(3-2*f)
}

// unit is a random number in [-1, 1) for (seed, lane, i).
func unit(seed, lane uint64, i int64) float64 {
	h := mix(mix(mix(seed)^lane) ^ uint64(i))
	return float64(h>>11)/(1<<52) - 1
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood 2014): each bit of x
// changes half of the result's.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
