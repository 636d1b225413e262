package hal

import (
	"context"
	"time"
)

// A Push is one reading that a source gave by itself.
type Push struct {
	// At is when the reading arrived, with a monotonic clock reading.
	At time.Time
	// Channels are those of this reading, which may be others than those of the
	// one before: a broker's devices do not all say the same. Names, units and
	// kinds are as in Sensor.Channels. The slice is not changed after.
	Channels []Channel
	Values   []Value // one for each of Channels, the caller's
}

// A Pusher is a Sensor whose source says when there is a reading: a broker's
// message, a line of a program or of a serial port. Whoever reads it calls Next
// again and again in place of Read at an interval; an interval in its
// configuration then says how long it may be silent at most, if anything.
//
// Readings between two calls are kept in a queue of bounded length, each with
// its own time; the oldest are dropped when it is full. So Next may be called
// as late as the caller likes, and a pause after an error loses nothing else.
type Pusher interface {
	// Read, of Sensor, waits for the next reading and returns its values of
	// Sensor.Channels, absent where it has none; it is for those who do not know
	// of Next.
	Sensor
	// Next returns the oldest reading that was not yet returned, and waits for
	// one, until ctx's end: that there was none is ctx.Err() and no fault of the
	// source. Any other error means that the source is away or broken
	// (ErrNoDevice: it is not there); readings that came before are returned
	// first. It may be called again, best after a pause: the source comes back
	// by itself or, if it stays away, after Close and a new Open. One goroutine
	// at a time calls Next or Read.
	Next(ctx context.Context) (Push, error)
}

// A Dropper is a Pusher that counts the readings which its full queue dropped.
type Dropper interface {
	// Dropped is how many those were since Open. Any goroutine may call it.
	Dropped() uint64
}
