package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// daysLeft is how many whole days there are until a certificate's end.
func daysLeft(end time.Time) int { return int(time.Until(end) / (24 * time.Hour)) }

// ownState is what the bridge does with the CA, in the column of a registered one's
// status.
func ownState(ca admin.OwnCA) string {
	if ca.Previous {
		return "PREVIOUS"
	}
	return "SIGNING"
}

var certCARotate = command{name: "cert ca rotate",
	summary: "make a new CA of the bridge for devices' certificates; the one of before stays trusted until cert " +
		"ca retire",
	example: "tidemill-bridge cert ca rotate",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var all []admin.OwnCA
			if err := a.do(ctx, "POST", "/v1/own-cas/rotate", nil, nil, &all); err != nil {
				return err
			}
			for _, ca := range all {
				if _, err := fmt.Fprintf(c.stdout, "%-9s %s %q, %d days left\n", ownState(ca), ca.ID, ca.Subject,
					daysLeft(ca.NotAfter)); err != nil {
					return err
				}
			}
			_, err := fmt.Fprint(c.stdout,
				"next      give every device the ca.pem of pki/ in the data directory, then a new certificate\n"+
					"          (tidemill-agent rotate, or a new kit), then: tidemill-bridge cert ca retire\n")
			return err
		})
	}}

var certCARetire = command{name: "cert ca retire",
	summary: "end a rotation: the CA of before is trusted no more, and the server's certificate is of the new one",
	example: "tidemill-bridge cert ca retire\ntidemill-bridge cert ca retire -force",
	run: func(ctx context.Context, c *call) error {
		force := c.flags.Bool("force", false, "make certificates of the CA of before that are still active INACTIVE")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var done admin.Retired
			query := url.Values{"force": {strconv.FormatBool(*force)}}
			if err := a.do(ctx, "POST", "/v1/own-cas/retire", query, nil, &done); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.stdout, "the CA of before is retired; %d certificates were made INACTIVE\n",
				done.Deactivated)
			return err
		})
	}}
