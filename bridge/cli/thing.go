package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var thingCreate = command{name: "thing create", args: "NAME",
	summary: "create a thing, or a further certificate for it: key, certificate, CA, agent configuration",
	example: "tidemill-bridge thing create pi-1                 # writes the folder pi-1\n" +
		"tidemill-bridge thing create try -sensor sim       # a simulated Pi; then: tidemill-agent run " +
		"-config try/agent.toml\n" +
		"tidemill-bridge thing create pi-1 -out ./id -endpoint bridge.example.org:8883",
	run: func(ctx context.Context, c *call) error {
		out := c.flags.String("out", "",
			"`folder` to write to; it is made, and must hold no identity yet (default: one of the thing's name)")
		in := newThing(c)
		if err := c.parse(1, 1); err != nil {
			return err
		}
		if in.Name = c.args[0]; *out == "" {
			*out = folderOf(in.Name)
		}
		if err := folderFor(*out, identityFiles[:]); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var id admin.Identity
			if err := a.do(ctx, "POST", "/v1/things", nil, in, &id); err != nil {
				return err
			}
			for i, text := range []string{id.Key, id.Certificate, id.CA, id.AgentConfig} {
				if err := writeNew(filepath.Join(*out, identityFiles[i]), text); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(c.stdout,
				"thing        %s\ncertificate  %s\nendpoint     %s\n"+
					"written      %s/{key,cert,ca}.pem, agent.toml\n%snext         tidemill-agent run -config %s\n",
				in.Name, id.CertificateID, id.Endpoint, *out, noteLine(id.Note), filepath.Join(*out, "agent.toml"))
			return err
		})
	}}

// folderFor makes the folder of an identity, unless one of the files is there: before
// a certificate is issued that nobody would have the key of.
func folderFor(dir string, files []string) error {
	for _, name := range files {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already; it is not overwritten", path)
		}
	}
	return os.MkdirAll(dir, 0o700)
}

// newThing adds the flags of those commands that make one.
func newThing(c *call) *admin.NewThing {
	in := &admin.NewThing{}
	c.flags.StringVar(&in.Endpoint, "endpoint", "",
		"`host:port` where the device will find the bridge (default: the first of mqtt.server_names, else this host's name, and the MQTT port)")
	c.flags.StringVar(&in.Sensor, "sensor", "host", "what the agent's configuration begins with: `"+
		strings.Join(admin.Sensors, ", ")+"`")
	return in
}

// folderOf is a folder's name for a thing, whose own may hold colons.
func folderOf(thing string) string { return strings.ReplaceAll(thing, ":", "_") }

func noteLine(note string) string {
	if note == "" {
		return ""
	}
	return "NOTE         " + note + "\n"
}

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
		return c.with(ctx, func(a *client) error {
			var things []admin.ThingInfo
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

var thingDelete = command{name: "thing delete", args: "NAME",
	summary: "delete a thing and its certificates; its shadows stay",
	example: "tidemill-bridge thing delete pi-1 -yes\ntidemill-bridge thing delete pi-1 -yes -keep-certificates",
	run: func(ctx context.Context, c *call) error {
		yes := c.flags.Bool("yes", false, "really do it")
		keep := c.flags.Bool("keep-certificates", false,
			"only take the thing from its certificates, which stay as they are")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		name := c.args[0]
		return c.with(ctx, func(a *client) error {
			query := url.Values{"certificates": {"delete"}}
			if *keep {
				query.Set("certificates", "keep")
			}
			var certs []admin.CertificateInfo
			if !*yes {
				if err := a.do(ctx, "GET", "/v1/certificates", url.Values{"thing": {name}}, nil, &certs); err != nil {
					return err
				}
				return fmt.Errorf(
					"thing delete %s would end its connections and %s %d certificates of it for good; say -yes "+
						"to do so",
					name, query.Get("certificates"), len(certs))
			}
			if err := a.do(ctx, "DELETE", "/v1/things/"+url.PathEscape(name), query, nil, &certs); err != nil {
				return err
			}
			fmt.Fprintf(c.stdout, "thing        %s  DELETED\n", name)
			for _, i := range certs {
				fmt.Fprintf(c.stdout, "certificate  %s  %s\n", i.ID, i.Status)
			}
			return nil
		})
	}}

var certList = command{name: "cert list", summary: "list certificates with their state",
	example: "tidemill-bridge cert list -thing pi-1",
	run: func(ctx context.Context, c *call) error {
		thing := c.flags.String("thing", "", "only those of this thing")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var certs []admin.CertificateInfo
			if err := a.do(ctx, "GET", "/v1/certificates", url.Values{"thing": {*thing}}, nil, &certs); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CERTIFICATE\tSTATUS\tTHINGS\tPOLICIES")
			for _, i := range certs {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.ID, i.Status, strings.Join(i.Things, ","),
					strings.Join(i.Policies, ","))
			}
			return w.Flush()
		})
	}}

var certStatus = command{name: "cert status", args: "ID ACTIVE|INACTIVE|REVOKED",
	summary: "change a certificate's state, with effect on live connections at once",
	example: "tidemill-bridge cert status 3f1a… REVOKED",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "POST", "/v1/certificates/"+url.PathEscape(c.args[0]), nil,
				admin.CertificateStatus{Status: c.args[1]}, nil)
		})
	}}
