package send

import (
	"context"
	"io"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/s3"
)

func addObjects(o *Options, add adding) {
	buckets := newClients(o, "s3", s3.New)
	add("s3", 16, 1<<20, inOrder(func(ctx context.Context, d *action.Delivery) error {
		write := func(w io.Writer) error {
			_, err := w.Write(d.Data)
			return err
		}
		if o.Objects != nil {
			return o.Objects.Put(ctx, d.Bucket, d.Name, write)
		}
		c, err := buckets.in(ctx, "")
		if err != nil {
			return err
		}
		return c.PutACL(ctx, d.Bucket, d.Name, d.Parameter("cannedAcl"), write)
	}))
}
