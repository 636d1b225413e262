package aws

import (
	"context"
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// mostRefused are the refused changes of one caller, or of one address whose callers
// have not proven who they are, that have a record in a minute. Our choice.
const mostRefused = 20

// Audit is where it is kept what the APIs change, and who was refused. It implements
// wire.Audit.
type Audit struct {
	Log     *audit.Log
	Refused *audit.Refusals // changes that callers of the bridge asked for in vain
	Claimed *audit.Refusals // those whose caller has not proven to be who it says
	Strayed func(r *http.Request, keyID string, err error)
}

// Begin implements wire.Audit.
func (a *Audit) Begin(ctx context.Context, of wire.Change) (context.Context, func(error) error) {
	c := &audit.Change{Record: recordOf(of), Asked: of.Asked}
	if of.Before != nil {
		c.Show(of.Before, of.Asked)
	}
	return audit.With(ctx, c), func(err error) error {
		if err == nil || c.Kept() {
			return a.Log.End(ctx, c, err)
		}
		a.Refuse(of, true, err)
		return err
	}
}

// Refuse implements wire.Audit.
func (a *Audit) Refuse(of wire.Change, proven bool, err error) {
	r := recordOf(of)
	r.After, r.Error = of.Asked, err.Error()
	if proven {
		a.Refused.Refused(of.Caller.Owner(), mostRefused, r)
		return
	}
	if of.Key != "" {
		r.Who, r.Key = audit.Claimed(of.Key), ""
	}
	a.Claimed.Refused("aws "+of.Address, mostRefused, r)
}

// SignIn implements wire.Audit.
func (a *Audit) SignIn(r *http.Request, keyID string, err error) { a.Strayed(r, keyID, err) }

func recordOf(of wire.Change) audit.Record {
	return audit.Record{Source: audit.SourceAWS, Who: of.Caller.Principal(), Key: of.Key, From: of.Remote,
		Request: of.Request, Action: of.Action, Target: of.Target}
}
