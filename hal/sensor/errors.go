package sensor

import (
	"context"
	"errors"

	"github.com/tidemill/tidemill/hal"
)

// What a failed reading was. Drivers wrap them with the details; hal.ErrNoDevice
// belongs to them. A quantity that alone is missing is an absent value instead.
var (
	// ErrWrongID: another chip answers than the driver is for.
	ErrWrongID = errors.New("another chip answers")
	// ErrCRC: the answer's check does not fit. It was asked for once more.
	ErrCRC = errors.New("the answer is damaged")
	// ErrProtocol: the answer does not belong to the question.
	ErrProtocol = errors.New("the answer does not fit the question")
	// ErrNotReady: nothing was measured in the time that a reading has.
	ErrNotReady = errors.New("nothing measured yet")
	// ErrSaturated: the converter is at its end.
	ErrSaturated = errors.New("the converter is at its end")
	// ErrOpenCircuit: the chip says that its probe is not connected.
	ErrOpenCircuit = errors.New("the probe is open")
	// ErrShortCircuit: the chip says that its probe touches a supply.
	ErrShortCircuit = errors.New("the probe is shorted")
	// ErrFault: the chip says that itself or its measurement is broken.
	ErrFault = errors.New("the chip reports a fault")
	// ErrOutOfRange: outside of what the chip can measure.
	ErrOutOfRange = errors.New("out of the chip's range")
	// ErrImplausible: the chip contradicts itself.
	ErrImplausible = errors.New("implausible")
	// ErrException: the device refuses the request.
	ErrException = errors.New("the device refuses")
	// ErrUnsupported: the source says nothing that a value could be made of.
	ErrUnsupported = errors.New("not supported")
)

// answered says whether err is what a chip says that works and has no value this
// time: its range, its converter or its probe is the reason. It was found, and it
// need not be set up anew.
func answered(err error) bool {
	for _, e := range []error{ErrSaturated, ErrOpenCircuit, ErrShortCircuit, ErrOutOfRange} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// kinds names the errors, the more telling one first where one wraps several.
var kinds = []struct {
	err  error
	name string
}{
	{ErrBusy, hal.CauseBusy},
	{ErrHeld, hal.CauseHeld},
	{ErrWrongID, hal.CauseWrongID},
	{ErrCRC, hal.CauseCRC},
	{ErrProtocol, hal.CauseProtocol},
	{ErrNotReady, hal.CauseNotReady},
	{ErrSaturated, hal.CauseSaturated},
	{ErrOpenCircuit, hal.CauseOpenCircuit},
	{ErrShortCircuit, hal.CauseShortCircuit},
	{ErrFault, hal.CauseFault},
	{ErrOutOfRange, hal.CauseOutOfRange},
	{ErrImplausible, hal.CauseImplausible},
	{ErrException, hal.CauseException},
	{ErrUnsupported, hal.CauseUnsupported},
	{hal.ErrNoDevice, hal.CauseNoDevice},
	{context.DeadlineExceeded, hal.CauseTimeout},
}

// KindOf names what err is, such as "no_device" or "crc", for status and
// metrics; "" for what is none of the errors above.
func KindOf(err error) string {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return ""
}
