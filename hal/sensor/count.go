package sensor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"

	"github.com/tidemill/tidemill/hal"
)

var countDriver = driver{
	Driver: Driver{
		Name:    "count",
		Summary: "numbers its own readings from 1; for tests of the path",
		Options: []Option{
			{"text_bytes", "integer", "0", "adds a channel pad with this many bytes of random letters, at most 65536"},
		},
	},
	set: func(o *options) opener {
		pad := int(o.between("text_bytes", 0, 0, 64<<10))
		return func(context.Context, hal.Board) (hal.Sensor, error) {
			// Lives stay below 2^53, so that JSON readers with only floats
			// tell them apart.
			return &count{life: 1 + rand.Int64N(1<<53-1), pad: pad}, nil
		}
	},
}

// count is the driver of the same name. A missing n downstream is a lost
// reading, one seen twice a doubled one; life tells starts apart.
type count struct {
	life   int64
	pad    int
	n      int64
	closed atomic.Bool
}

func (c *count) Channels() []hal.Channel {
	chs := []hal.Channel{{Name: "n", Kind: hal.Int}, {Name: "life", Kind: hal.Int}}
	if c.pad > 0 {
		chs = append(chs, hal.Channel{Name: "pad", Kind: hal.Text})
	}
	return chs
}

func (c *count) Read(ctx context.Context) ([]hal.Value, error) {
	if c.closed.Load() {
		return nil, fmt.Errorf("count: %w", os.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("count: %w", err)
	}
	c.n++
	vals := append(make([]hal.Value, 0, 3), hal.IntValue(c.n), hal.IntValue(c.life))
	if c.pad > 0 {
		// New letters each time, so that compression can't hide the size.
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		rng := rand.New(rand.NewPCG(uint64(c.life), uint64(c.n)))
		b := make([]byte, c.pad)
		for i := range b {
			b[i] = letters[rng.Uint32()&63]
		}
		vals = append(vals, hal.TextValue(string(b)))
	}
	return vals, nil
}

func (c *count) Close() error {
	c.closed.Store(true)
	return nil
}
