package server

import (
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose/control"
)

// openDeliveryControl opens Firehose's API: what it made before runs again.
func (a *assembly) openDeliveryControl() (err error) {
	a.deliveries, err = control.Open(a.firehose, a.store, control.Options{
		Account: a.cfg.Account, Region: a.cfg.Region, Delay: time.Duration(a.cfg.Kinesis.Delay),
		MaxBacklog: int64(a.cfg.Rules.MaxBacklog), Seal: a.seal, Log: a.log,
	})
	return err
}
