package cli

import (
	"bytes"
	"context"
	"net/url"
	"strings"
)

var objectPut = command{name: "object put", args: "BUCKET/KEY FILE",
	summary: "store a file as an object, such as the descriptor set of decode(…, 'proto', …)",
	example: "tidemill-bridge object put schemas/pump.desc pump.desc   # of protoc --include_imports -o " +
		"pump.desc pump.proto",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		bucket, key, ok := strings.Cut(c.args[0], "/")
		if !ok {
			return usagef("object put: %q is no BUCKET/KEY; see -h", c.args[0])
		}
		data, err := argument(fileArgument(c.args[1]))
		if err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "PUT", "/v1/objects", url.Values{"bucket": {bucket}, "key": {key}}, bytes.NewReader(data),
				nil)
		})
	}}
