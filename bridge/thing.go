package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/server"
)

var thingCreate = command{name: "thing create", args: "NAME", summary: "create a thing, or a further certificate for it: key, certificate, CA, agent configuration",
	example: "tidemill-bridge thing create pi-1 -out ./pi-1 -endpoint bridge.example.org:8883\nscp -r pi-1 pi@pi-1:/etc/tidemill",
	run: func(ctx context.Context, c *call) error {
		out := c.flags.String("out", "", "`folder` to write to; it is made, and must hold no identity yet")
		endpoint := c.flags.String("endpoint", "", "`host:port` where the device will find the bridge (default: this host's name and the MQTT port)")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		if *out == "" {
			return usagef("thing create: -out is needed: the private key is shown to nobody else, and only once")
		}
		// Before a certificate is issued that nobody would have the key of.
		for _, name := range identityFiles {
			if _, err := os.Lstat(filepath.Join(*out, name)); err == nil {
				return fmt.Errorf("%s is there already; it is not overwritten", filepath.Join(*out, name))
			}
		}
		if err := os.MkdirAll(*out, 0o700); err != nil {
			return err
		}
		return c.with(ctx, func(a *admin) error {
			var id server.Identity
			in := server.NewThing{Name: c.args[0], Endpoint: *endpoint}
			if err := a.do(ctx, "POST", "/v1/things", nil, in, &id); err != nil {
				return err
			}
			for i, text := range []string{id.Key, id.Certificate, id.CA, id.AgentConfig} {
				if err := writeNew(filepath.Join(*out, identityFiles[i]), text); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(c.stdout, "thing        %s\ncertificate  %s\nwritten      %s/{key,cert,ca}.pem, agent.toml\nnext         tidemill-agent run -config %s\n",
				in.Name, id.CertificateID, *out, filepath.Join(*out, "agent.toml"))
			return err
		})
	}}

// identityFiles are what thing create writes.
var identityFiles = [...]string{"key.pem", "cert.pem", "ca.pem", "agent.toml"}

// writeNew writes a file that must not be there yet, for its owner only, and
// syncs it: a key that is lost cannot be had again.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

var thingList = command{name: "thing list", summary: "list the things and whether they are connected",
	example: "tidemill-bridge thing list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *admin) error {
			var things []server.ThingInfo
			if err := a.do(ctx, "GET", "/v1/things", nil, nil, &things); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "THING\tCERTIFICATES\tCONNECTED")
			for _, t := range things {
				connected := "no"
				if !t.Since.IsZero() {
					connected = "since " + t.Since.Format("2006-01-02T15:04:05Z07:00")
				}
				fmt.Fprintf(w, "%s\t%d\t%s\n", t.Name, len(t.Certificates), connected)
			}
			return w.Flush()
		})
	}}

var certList = command{name: "cert list", summary: "list certificates with their state",
	example: "tidemill-bridge cert list -thing pi-1",
	run: func(ctx context.Context, c *call) error {
		thing := c.flags.String("thing", "", "only those of this thing")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *admin) error {
			var certs []server.CertificateInfo
			if err := a.do(ctx, "GET", "/v1/certificates", url.Values{"thing": {*thing}}, nil, &certs); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CERTIFICATE\tSTATUS\tTHINGS\tPOLICIES")
			for _, i := range certs {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.ID, i.Status, strings.Join(i.Things, ","), strings.Join(i.Policies, ","))
			}
			return w.Flush()
		})
	}}

var certStatus = command{name: "cert status", args: "ID ACTIVE|INACTIVE|REVOKED", summary: "change a certificate's state, with effect on live connections at once",
	example: "tidemill-bridge cert status 3f1a… REVOKED",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		return c.with(ctx, func(a *admin) error {
			return a.do(ctx, "POST", "/v1/certificates/"+url.PathEscape(c.args[0]), nil, server.CertificateStatus{Status: c.args[1]}, nil)
		})
	}}
