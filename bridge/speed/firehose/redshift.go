package firehose

import (
	"context"
	"errors"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
)

// ManifestType is the Failed type of a manifest: objects that are in S3 and could not
// be loaded.
const ManifestType = "errors"

var errNoWarehouse = errors.New("no warehouses are loaded")

func (d *stream) toWarehouse(context.Context, *Config, *plan) (*delivery.Job, error) {
	return nil, errNoWarehouse
}

func (d *stream) driveManifest(context.Context, *Config, Failed) error { return errNoWarehouse }
