// Package sensirion holds what drivers and simulated chips know of Sensirion's
// SHT3x (datasheet of December 2022), SHT4x (April 2024) and SCD4x (1.7): commands,
// words with their check, and the formulas that make measurements of them.
package sensirion

import "encoding/binary"

// Commands of the SHT3x, two bytes, without clock stretching (tables 9, 11, 13
// to 18).
const (
	SHT3xHigh      = 0x2400 // one measurement, by repeatability
	SHT3xMedium    = 0x240B
	SHT3xLow       = 0x2416
	SHT3xBreak     = 0x3093 // ends periodic measurement
	SHT3xHeaterOff = 0x3066
	SHT3xStatus    = 0xF32D // reads a word: SHT3xHeater and others
	SHT3xReset     = 0x30A2

	SHT3xHeater = 1 << 13
)

// Commands of the SHT4x, one byte (section 4.5).
const (
	SHT4xHigh   = 0xFD // one measurement, by precision
	SHT4xMedium = 0xF6
	SHT4xLow    = 0xE0
	SHT4xSerial = 0x89 // reads two words
	SHT4xReset  = 0x94
)

// Commands of the SCD4x, two bytes (section 3.5 to 3.10).
const (
	SCD4xStart        = 0x21B1 // a measurement each 5 s
	SCD4xStop         = 0x3F86 // other commands may come 500 ms later
	SCD4xReady        = 0xE4B8 // reads a word: SCD4xReadyBits are 0 while there is nothing new
	SCD4xRead         = 0xEC05 // reads three words: CO2, temperature, humidity
	SCD4xSerial       = 0x3682 // reads three words
	SCD4xSetAltitude  = 0x2427
	SCD4xGetAltitude  = 0x2322
	SCD4xSetSelfCalib = 0x2416
	SCD4xGetSelfCalib = 0x2313

	SCD4xReadyBits = 0x7FF
)

// CRC is the check of two bytes: polynomial 0x31, first value 0xFF; that of 0xBE
// 0xEF is 0x92 (SHT3x, table 20).
func CRC(b []byte) byte {
	crc := byte(0xFF)
	for _, x := range b {
		crc ^= x
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// Append adds words with their checks.
func Append(b []byte, words ...uint16) []byte {
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
		b = append(b, CRC(b[len(b)-2:]))
	}
	return b
}

// Parse reads words with their checks, three bytes each, into words; false if
// one does not fit.
func Parse(b []byte, words []uint16) bool {
	if len(b) != 3*len(words) {
		return false
	}
	for i := range words {
		w := b[3*i:]
		if CRC(w[:2]) != w[2] {
			return false
		}
		words[i] = binary.BigEndian.Uint16(w)
	}
	return true
}

// Celsius returns °C of a raw temperature; all three have one formula (SHT3x 4.13,
// SHT4x 4.6, SCD4x 3.6.2).
func Celsius(raw uint16) float64 { return -45 + 175*float64(raw)/65535 }

// Humidity returns %RH of a raw humidity of SHT3x and SCD4x.
func Humidity(raw uint16) float64 { return 100 * float64(raw) / 65535 }

// SHT4xHumidity returns %RH of a raw humidity, from -6 to 119: beyond 0 and 100 the
// datasheet cuts it off (4.6).
func SHT4xHumidity(raw uint16) float64 { return -6 + 125*float64(raw)/65535 }
