package hal

// What can be wrong with a sensor, as status, metrics and the shadow name it. Drivers'
// errors are in package sensor, which says what each means; the last five are of whoever
// reads sensors.
const (
	CauseNoDevice     = "no_device"
	CauseBusy         = "busy"
	CauseTimeout      = "timeout"
	CauseHeld         = "held"
	CauseWrongID      = "wrong_id"
	CauseCRC          = "crc"
	CauseProtocol     = "protocol"
	CauseNotReady     = "not_ready"
	CauseSaturated    = "saturated"
	CauseOpenCircuit  = "open_circuit"
	CauseShortCircuit = "short_circuit"
	CauseFault        = "fault"
	CauseOutOfRange   = "out_of_range"
	CauseImplausible  = "implausible"
	CauseException    = "exception"
	CauseUnsupported  = "unsupported"

	CauseBus         = "bus"
	CauseOutOfBounds = "out_of_bounds"
	CauseSilent      = "silent"
	CauseOther       = "error"
)
