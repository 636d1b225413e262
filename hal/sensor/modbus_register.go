package sensor

import (
	"fmt"
	"math"

	"github.com/tidemill/tidemill/hal"
)

// A modbusRegister is one value of a device: a coil, or one to four registers.
type modbusRegister struct {
	place         int // in a reading
	address       int
	table         string
	kind          string
	order         string
	bit           int
	scale, offset float64
	hasNone       bool
	none          uint64
}

// bits says whether the table has bits in place of registers.
func (r *modbusRegister) bits() bool { return r.table == "coil" || r.table == "discrete" }

// words is how many registers, or bits, it takes.
func (r *modbusRegister) words() int {
	switch r.kind {
	case "int32", "uint32", "float32":
		return 2
	case "int64", "uint64", "float64":
		return 4
	}
	return 1
}

// channelKind is Int for whole numbers that are taken as they are.
func (r *modbusRegister) channelKind() hal.Kind {
	switch r.kind {
	case "bool":
		return hal.Bool
	case "float32", "float64":
		return hal.Float
	}
	if r.scale == 1 && r.offset == 0 {
		return hal.Int
	}
	return hal.Float
}

// raw puts the registers together, the most significant first; order says how they
// came: the bytes A, B, C, D of a register pair, A the most significant.
func (r *modbusRegister) raw(words []uint16) uint64 {
	n := r.words()
	u := uint64(0)
	for i := range n {
		at := i
		if r.order == "cdab" || r.order == "dcba" {
			at = n - 1 - i
		}
		w := words[at]
		if r.order == "badc" || r.order == "dcba" {
			w = w<<8 | w>>8
		}
		u = u<<16 | uint64(w)
	}
	return u
}

// value makes the channel's value of the registers from its address on.
func (r *modbusRegister) value(words []uint16) (hal.Value, error) {
	u := r.raw(words)
	if r.hasNone && u == r.none<<(64-16*r.words())>>(64-16*r.words()) {
		return hal.Value{}, fmt.Errorf("%w: %s %d says that it has no value", ErrNotReady, r.table, r.address)
	}
	above := 64 - 16*r.words()
	var f float64
	i := int64(u<<above) >> above // as signed
	switch r.kind {
	case "bool":
		return hal.BoolValue(u>>r.bit&1 == 1), nil
	case "int16", "int32", "int64":
		f = float64(i)
	case "float32":
		f = float64(math.Float32frombits(uint32(u)))
	case "float64":
		f = math.Float64frombits(u)
	default:
		f, i = float64(u), int64(u)
	}
	if r.channelKind() == hal.Int {
		if r.kind == "uint64" && u > math.MaxInt64 {
			return hal.Value{}, fmt.Errorf("%w: %s %d has %d, more than a record's number holds", ErrOutOfRange,
				r.table, r.address, u)
		}
		return hal.IntValue(i), nil
	}
	if f = f*r.scale + r.offset; math.IsNaN(f) || math.IsInf(f, 0) {
		return hal.Value{}, fmt.Errorf("%w: %s %d is %v", ErrImplausible, r.table, r.address, f)
	}
	return hal.FloatValue(f), nil
}
