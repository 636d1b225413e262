package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var policyVersions = command{name: "policy versions", args: "NAME", summary: "list the versions of a policy",
	example: "tidemill-bridge policy versions sensors",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var all []admin.PolicyVersionInfo
			if err := a.do(ctx, "GET", "/v1/policies/"+url.PathEscape(c.args[0])+"/versions", nil, nil,
				&all); err != nil {
				return err
			}
			for _, v := range all {
				mark := ""
				if v.Default {
					mark = "  in effect"
				}
				fmt.Fprintf(c.stdout, "%d  %s%s\n", v.Version, when(v.Created), mark)
			}
			return nil
		})
	}}

var policyDefault = command{name: "policy default", args: "NAME VERSION",
	summary: "put another version of a policy in effect",
	example: "tidemill-bridge policy default sensors 2",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		var in admin.PolicyVersion
		if _, err := fmt.Sscan(c.args[1], &in.Version); err != nil {
			return usagef("policy default: %q is no version; see -h", c.args[1])
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "POST", "/v1/policies/"+url.PathEscape(c.args[0])+"/default", nil, in, nil)
		})
	}}

var policyDelete = command{name: "policy delete", args: "NAME",
	summary: "delete a policy that is attached to nothing, or one version of a policy",
	example: "tidemill-bridge policy delete sensors -version 1\ntidemill-bridge policy delete sensors",
	run: func(ctx context.Context, c *call) error {
		version := c.flags.Int("version", 0, "only this version, which must not be in effect")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		path := "/v1/policies/" + url.PathEscape(c.args[0])
		if *version != 0 {
			path += "/versions/" + fmt.Sprint(*version)
		}
		return c.with(ctx, func(a *client) error { return a.do(ctx, "DELETE", path, nil, nil, nil) })
	}}

var policyEffective = command{name: "policy effective", args: "[CERTIFICATE-ID]",
	summary: "print the policies in effect for a certificate, a thing, or both, with where they are attached",
	example: "tidemill-bridge policy effective 3f1a… -thing pi-1\ntidemill-bridge policy effective -thing pi-1 -json",
	run: func(ctx context.Context, c *call) error {
		thing := c.flags.String("thing", "", "the `thing` that it connects as: its groups' policies count too")
		asJSON := c.flags.Bool("json", false, "print JSON with the documents")
		if err := c.parse(0, 1); err != nil {
			return err
		}
		query := url.Values{"thing": {*thing}}
		if len(c.args) > 0 {
			query.Set("certificate", c.args[0])
		} else if *thing == "" {
			return usagef("policy effective: want a CERTIFICATE-ID, -thing, or both; see -h")
		}
		return getAndPrint(ctx, c, *asJSON, "/v1/effective-policies", query, func(all []admin.EffectivePolicy) error {
			for _, p := range all {
				fmt.Fprintf(c.stdout, "%s:%d  %s\n", p.Name, p.Version, strings.Join(p.From, ", "))
			}
			return nil
		})
	}}

// actionsOf are the words of the command line for TestAuthorization's.
var actionsOf = map[string]string{"publish": "PUBLISH", "subscribe": "SUBSCRIBE", "receive": "RECEIVE",
	"connect": "CONNECT"}

// errRefused ends policy test with status 1, for scripts.
var errRefused = errors.New("not allowed")

var policyTest = command{name: "policy test", args: "CERTIFICATE-ID publish|subscribe|receive|connect RESOURCE...",
	summary: "say what a certificate may do and which statement decides",
	example: "tidemill-bridge policy test 3f1a… publish dt/pi-1/temp -client pi-1\n" +
		"tidemill-bridge policy test 3f1a… subscribe 'cmd/#' -client pi-1 -add new-policy -skip old-policy",
	run: func(ctx context.Context, c *call) error {
		clientID := c.flags.String("client", "", "the client `id` that it connects with")
		source := c.flags.String("source-ip", "", "the `address` that it connects from")
		add := c.flags.String("add", "", "`policies`, with commas between them, as if they were attached")
		skip := c.flags.String("skip", "", "`policies` as if they were not")
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(3, 1000); err != nil {
			return err
		}
		action := actionsOf[strings.ToLower(c.args[1])]
		if action == "" {
			return usagef("policy test: %q: want publish, subscribe, receive or connect; see -h", c.args[1])
		}
		in := admin.PolicyTest{Certificate: c.args[0], ClientID: *clientID, SourceIP: *source, Add: list(*add),
			Skip:  list(*skip),
			Infos: []registry.AuthInfo{{Action: action, Resources: c.args[2:]}}}
		return c.with(ctx, func(a *client) error {
			var all []admin.PolicyTestResult
			if err := a.do(ctx, "POST", "/v1/policy-tests", nil, in, &all); err != nil {
				return err
			}
			var refused error
			for _, r := range all {
				if r.Decision != "ALLOWED" {
					refused = errRefused
				}
				if !*asJSON {
					fmt.Fprint(c.stdout, r.Explanation)
					if r.Status != string(registry.Active) {
						fmt.Fprintf(c.stdout, "  but the certificate is %s and cannot connect\n", r.Status)
					}
				}
			}
			if *asJSON {
				return errors.Join(json.NewEncoder(c.json()).Encode(all), refused)
			}
			return refused
		})
	}}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

var policyWhoCan = command{name: "policy who-can", args: "publish|subscribe|receive|connect TOPIC",
	summary: "list the certificates and things that may do something, and by which statement",
	example: "tidemill-bridge policy who-can publish cmd/pump-1/stop\n" +
		"tidemill-bridge policy who-can subscribe 'dt/#' -json",
	run: func(ctx context.Context, c *call) error {
		source := c.flags.String("source-ip", "",
			"the `address` that they connect from; without one, statements about it do not allow")
		asJSON := c.flags.Bool("json", false, "print one JSON object a line")
		if err := c.parse(2, 2); err != nil {
			return err
		}
		if actionsOf[c.args[0]] == "" {
			return usagef("policy who-can: %q: want publish, subscribe, receive or connect; see -h", c.args[0])
		}
		query := url.Values{"action": {c.args[0]}, "resource": {c.args[1]}, "source_ip": {*source}}
		return c.with(ctx, func(a *client) error {
			n := 0
			var failed error
			err := a.do(ctx, "GET", "/v1/who-can", query, nil, lines(func(l admin.WhoCanLine) bool {
				if l.End {
					if l.Error != "" {
						failed = errors.New(l.Error)
					}
					return true
				}
				if l.Access == nil {
					failed = errors.New("an answer without content")
					return true
				}
				n++
				if *asJSON {
					failed = json.NewEncoder(c.json()).Encode(l.Access)
				} else {
					failed = printAccess(c, l.Access)
				}
				return failed != nil
			}))
			if err := errors.Join(err, failed); err != nil || *asJSON {
				return err
			}
			if n == 0 {
				fmt.Fprintln(c.stdout, "nobody")
			}
			return nil
		})
	}}

func printAccess(c *call, x *registry.Access) error {
	as := "over HTTPS"
	switch {
	case x.Thing != "":
		as = "as thing " + x.Thing
	case x.ClientID != "":
		as = fmt.Sprintf("as client %q", x.ClientID)
	}
	var by []string
	for _, g := range x.Grants {
		s := fmt.Sprintf("%s statement %d", g.Policy, g.Statement)
		if g.Sid != "" {
			s += " (" + g.Sid + ")"
		}
		by = append(by, s)
	}
	note := ""
	if len(x.Missing) > 0 {
		note = "; not known here: " + strings.Join(x.Missing, ", ")
	}
	_, err := fmt.Fprintf(c.stdout, "%s  %s  by %s%s\n", x.Certificate, as, strings.Join(by, ", "), note)
	return err
}
