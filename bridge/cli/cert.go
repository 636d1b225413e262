package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/bounded"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// readLimited reads a file of at most most bytes.
func readLimited(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := bounded.ReadAll(f, most)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return raw, err
}

// readPEM reads a file of one certificate or request; no name is no text.
func readPEM(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	raw, err := readLimited(name, 64<<10)
	if err == nil && !bytes.Contains(raw, []byte("-----BEGIN ")) {
		err = fmt.Errorf("%s: not PEM", name)
	}
	return string(raw), err
}

// state is the status of new certificates.
func state(inactive bool) string {
	if inactive {
		return string(registry.Inactive)
	}
	return string(registry.Active)
}

var certCreate = command{name: "cert create", args: "[NAME]",
	summary: "issue a certificate by the bridge's own CA, without a thing and a policy",
	example: "tidemill-bridge cert create backup-key -out ./backup\n" +
		"tidemill-bridge cert create pump-7 -csr pump-7.csr -out ./pump-7",
	run: func(ctx context.Context, c *call) error {
		out := c.flags.String("out", "", "`folder` to write to; it is made, and must hold no identity yet")
		csr := c.flags.String("csr", "", "signing request, a PEM `file`: the device keeps its key")
		inactive := c.flags.Bool("inactive", false, "register it as INACTIVE")
		if err := c.parse(0, 1); err != nil {
			return err
		}
		if *out == "" {
			return usagef("cert create: -out is needed: the private key is shown to nobody else, and only once")
		}
		in := admin.NewCertificate{Status: state(*inactive)}
		if len(c.args) > 0 {
			in.Name = c.args[0]
		} else if *csr == "" {
			return usagef("cert create: want a NAME, or a request with -csr")
		}
		var err error
		if in.CSR, err = readPEM(*csr); err != nil {
			return err
		}
		files := identityFiles[:3]
		if in.CSR != "" {
			files = files[1:]
		}
		if err := folderFor(*out, files); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var id admin.Identity
			if err := a.do(ctx, "POST", "/v1/certificates", nil, in, &id); err != nil {
				return err
			}
			texts := []string{id.Key, id.Certificate, id.CA}
			for i, name := range files {
				if err := writeNew(filepath.Join(*out, name), texts[len(texts)-len(files)+i]); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(c.stdout,
				"certificate  %s\nstatus       %s\nwritten      %s in %s\n"+
					"next         tidemill-bridge policy attach NAME %s\n",
				id.CertificateID, in.Status, strings.Join(files, ", "), *out, id.CertificateID)
			return err
		})
	}}

var certRegister = command{name: "cert register", args: "FILE",
	summary: "register a device certificate of a registered CA, or pin one without a CA",
	example: "tidemill-bridge cert register pump.pem\ntidemill-bridge cert register old-gateway.pem -pinned",
	run: func(ctx context.Context, c *call) error {
		ca := c.flags.String("ca", "", "the CA's certificate, a PEM `file`, if several have its name")
		pinned := c.flags.Bool("pinned", false, "without a CA: this certificate and no other, whoever signed it")
		inactive := c.flags.Bool("inactive", false, "register it as INACTIVE")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		if *pinned && *ca != "" {
			return usagef("cert register: -ca and -pinned exclude each other")
		}
		in := admin.ForeignCertificate{Pinned: *pinned, Status: state(*inactive)}
		var err error
		if in.Certificate, err = readPEM(c.args[0]); err != nil {
			return err
		}
		if in.CA, err = readPEM(*ca); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var info admin.CertificateInfo
			if err := a.do(ctx, "PUT", "/v1/certificates", nil, in, &info); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.stdout, "certificate  %s\nstatus       %s\n", info.ID, info.Status)
			return err
		})
	}}

var certShow = command{name: "cert show", args: "ID", summary: "print all about one certificate",
	example: "tidemill-bridge cert show 3f1a…",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var d admin.CertificateDetail
			if err := a.do(ctx, "GET", "/v1/certificates/"+url.PathEscape(c.args[0]), nil, nil, &d); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "certificate\t%s\nstatus\t%s since %s\nsubject\t%q\nissuer\t%q\nserial\t%s\n", d.ID,
				d.Status, when(d.Changed), d.Subject, d.Issuer, d.Serial)
			if d.CA != "" {
				fmt.Fprintf(w, "ca\t%s\n", d.CA)
			}
			fmt.Fprintf(w, "valid\t%s to %s\nregistered\t%s\nthings\t%s\npolicies\t%s\n", when(d.NotBefore),
				when(d.NotAfter), when(d.Created),
				strings.Join(d.Things, ", "), strings.Join(d.Policies, ", "))
			if err := w.Flush(); err != nil {
				return err
			}
			_, err := io.WriteString(c.stdout, d.PEM)
			return err
		})
	}}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// certTo is a command that gives a certificate a state.
func certTo(verb string, to registry.Status, summary string) command {
	return command{name: "cert " + verb, args: "ID", summary: summary,
		example: "tidemill-bridge cert " + verb + " 3f1a…",
		run: func(ctx context.Context, c *call) error {
			if err := c.parse(1, 1); err != nil {
				return err
			}
			return c.with(ctx, func(a *client) error {
				return a.do(ctx, "POST", "/v1/certificates/"+url.PathEscape(c.args[0]), nil,
					admin.CertificateStatus{Status: string(to)}, nil)
			})
		}}
}

var (
	certActivate   = certTo("activate", registry.Active, "let a certificate connect")
	certDeactivate = certTo("deactivate", registry.Inactive,
		"let a certificate not connect any more, and end its connections at once")
	certRevoke = certTo("revoke", registry.Revoked,
		"revoke a certificate for good, and end its connections at once")
)

var certDelete = command{name: "cert delete", args: "ID", summary: "forget a certificate that is not active",
	example: "tidemill-bridge cert delete 3f1a… -force",
	run: func(ctx context.Context, c *call) error {
		force := c.flags.Bool("force", false, "detach policies and things from it first")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "DELETE", "/v1/certificates/"+url.PathEscape(c.args[0]),
				url.Values{"force": {fmt.Sprint(*force)}}, nil, nil)
		})
	}}

var certImportCRL = command{name: "cert import-crl", args: "FILE",
	summary: "revoke what a revocation list of a registered CA names, PEM or DER",
	example: "tidemill-bridge cert import-crl fleet-ca.crl",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		raw, err := readLimited(c.args[0], registry.MaxCRL)
		if err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var r registry.CRLImport
			if err := a.do(ctx, "POST", "/v1/crls", nil, bytes.NewReader(raw), &r); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "ca\t%s %q\nnumber\t%s of %s\nentries\t%d\nrevoked now\t%d\non hold now\t%d\n"+
				"were already\t%d\nnot registered\t%d\n",
				r.CA, r.Subject, r.Number, when(r.Issued), r.Entries, r.Revoked, r.Held, r.Already, r.Unknown)
			if r.Same {
				fmt.Fprintf(w, "note\tthis list was imported before\n")
			}
			if r.Stale {
				fmt.Fprintf(w, "note\tthe next list was due on %s\n", when(r.Next))
			}
			return w.Flush()
		})
	}}

var certCARegister = command{name: "cert ca register", args: "FILE",
	summary: "register a CA whose device certificates may be registered",
	example: "tidemill-bridge cert ca register fleet-ca.pem -verification verification.pem -activate\n" +
		"tidemill-bridge cert ca register fleet-ca.pem -mode SNI_ONLY -activate -auto-register",
	run: func(ctx context.Context, c *call) error {
		mode := c.flags.String("mode", string(registry.DefaultMode),
			"DEFAULT, with a verification certificate, or SNI_ONLY, without")
		verification := c.flags.String("verification", "",
			"verification certificate, a PEM `file`: signed by the CA, its common name is what cert ca code prints")
		active := c.flags.Bool("activate", false, "register it as ACTIVE")
		auto := c.flags.Bool("auto-register", false,
			"register its certificates when they first connect, to be activated")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		in := admin.NewCA{Mode: *mode, Active: *active, AutoRegister: *auto}
		var err error
		if in.Certificate, err = readPEM(c.args[0]); err != nil {
			return err
		}
		if in.Verification, err = readPEM(*verification); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var info admin.CAInfo
			if err := a.do(ctx, "POST", "/v1/cas", nil, in, &info); err != nil {
				return err
			}
			return printCA(c.stdout, &info)
		})
	}}

var certCACode = command{name: "cert ca code",
	summary: "print the registration code, the common name of verification certificates",
	example: "tidemill-bridge cert ca code",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var out struct{ Code string }
			if err := a.do(ctx, "GET", "/v1/registration-code", nil, nil, &out); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.stdout, out.Code)
			return err
		})
	}}

var certCAList = command{name: "cert ca list",
	summary: "list the bridge's own CAs and the registered ones, with the days that are left",
	example: "tidemill-bridge cert ca list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var own []admin.OwnCA
			if err := a.do(ctx, "GET", "/v1/own-cas", nil, nil, &own); err != nil {
				return err
			}
			var all []admin.CAInfo
			if err := a.do(ctx, "GET", "/v1/cas", nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CA\tSTATUS\tMODE\tAUTO-REGISTER\tDAYS LEFT\tSUBJECT")
			for _, i := range own {
				fmt.Fprintf(w, "%s\t%s\tOWN\t-\t%d\t%q\n", i.ID, ownState(i), daysLeft(i.NotAfter), i.Subject)
			}
			for _, i := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%d\t%q\n", i.ID, i.Status, i.Mode, i.AutoRegister, daysLeft(i.NotAfter),
					i.Subject)
			}
			return w.Flush()
		})
	}}

var certCAShow = command{name: "cert ca show", args: "ID", summary: "print all about one CA",
	example: "tidemill-bridge cert ca show 9c0d…",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var info admin.CAInfo
			if err := a.do(ctx, "GET", "/v1/cas/"+url.PathEscape(c.args[0]), nil, nil, &info); err != nil {
				return err
			}
			return printCA(c.stdout, &info)
		})
	}}

func printCA(out io.Writer, i *admin.CAInfo) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "ca\t%s\nstatus\t%s\nmode\t%s\nauto-register\t%v\nsubject\t%q\nvalid\t%s to %s\n", i.ID, i.Status,
		i.Mode, i.AutoRegister, i.Subject, when(i.NotBefore), when(i.NotAfter))
	if i.CRL != nil {
		fmt.Fprintf(w, "last CRL\tnumber %s of %s, imported %s\n", i.CRL.Number, when(i.CRL.Issued),
			when(i.CRL.Imported))
	}
	_, err := io.WriteString(w, i.PEM)
	return errors.Join(err, w.Flush())
}

// certCATo is a command that gives a CA a state.
func certCATo(verb string, to registry.Status, summary string) command {
	return command{name: "cert ca " + verb, args: "ID", summary: summary,
		example: "tidemill-bridge cert ca " + verb + " 9c0d…",
		run: func(ctx context.Context, c *call) error {
			auto := c.flags.String("auto-register", "",
				"on or off: whether its certificates are registered when they first connect")
			if err := c.parse(1, 1); err != nil {
				return err
			}
			in := admin.CAChange{Status: string(to)}
			switch *auto {
			case "":
			case "on", "off":
				on := *auto == "on"
				in.AutoRegister = &on
			default:
				return usagef("cert ca %s: -auto-register: want on or off", verb)
			}
			return c.with(ctx, func(a *client) error {
				return a.do(ctx, "POST", "/v1/cas/"+url.PathEscape(c.args[0]), nil, in, nil)
			})
		}}
}

var (
	certCAActivate   = certCATo("activate", registry.Active, "let certificates of a CA be registered")
	certCADeactivate = certCATo("deactivate", registry.Inactive,
		"let no more certificates of a CA be registered; those that are stay")
)

var certCADelete = command{name: "cert ca delete", args: "ID",
	summary: "forget a CA that is not active; its certificates stay",
	example: "tidemill-bridge cert ca delete 9c0d…",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "DELETE", "/v1/cas/"+url.PathEscape(c.args[0]), nil, nil, nil)
		})
	}}
