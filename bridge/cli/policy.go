package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

var policyShow = command{name: "policy show", args: "[NAME]", summary: "list the policies, or print one",
	example: "tidemill-bridge policy show\ntidemill-bridge policy show tidemill-thing",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 1); err != nil {
			return err
		}
		if len(c.args) == 0 {
			return c.with(ctx, func(a *client) error {
				var names []string
				if err := a.do(ctx, "GET", "/v1/policies", nil, nil, &names); err != nil {
					return err
				}
				for _, n := range names {
					fmt.Fprintln(c.stdout, n)
				}
				return nil
			})
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "GET", "/v1/policies/"+url.PathEscape(c.args[0]), nil, nil, c.json())
		})
	}}

var policyPut = command{name: "policy put", args: "NAME FILE",
	summary: "create a policy or give it a new default version",
	example: "tidemill-bridge policy put sensors policy.json\ntidemill-bridge policy put sensors - < policy.json",
	run: func(ctx context.Context, c *call) error {
		doc := c.flags.String("document", "",
			"in place of FILE: the AWS IoT policy document, @FILE, or - for standard input")
		if err := c.parse(1, 2); err != nil {
			return err
		}
		if *doc != "" && len(c.args) == 2 {
			return usagef("policy put: both FILE and -document are given; want one of them")
		}
		if (*doc == "") == (len(c.args) == 1) {
			return usagef("policy put: want NAME FILE, FILE being an AWS IoT policy document; see -h")
		}
		from := "-document"
		if *doc == "" {
			from, *doc = c.args[1], fileArgument(c.args[1])
		}
		text, err := argument(*doc)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("policy put: there is no file %s; -document takes the document itself",
				strings.TrimPrefix(*doc, "@"))
		}
		if err != nil {
			return fmt.Errorf("policy put: %w", err)
		}
		if err := json.Unmarshal(text, new(json.RawMessage)); err != nil {
			return fmt.Errorf("policy put: %s: not JSON: %w", from, strictjson.Explain(text, err))
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "PUT", "/v1/policies/"+url.PathEscape(c.args[0]), nil, json.RawMessage(text), nil)
		})
	}}

var policyAttach = command{name: "policy attach", args: "NAME CERTIFICATE-ID",
	summary: "attach a policy to a certificate",
	example: "tidemill-bridge policy attach sensors 3f1a…",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			in := admin.PolicyTarget{Certificate: c.args[1]}
			return a.do(ctx, "POST", "/v1/policies/"+url.PathEscape(c.args[0])+"/targets", nil, in, nil)
		})
	}}

var policyDetach = command{name: "policy detach", args: "NAME CERTIFICATE-ID",
	summary: "detach a policy from a certificate, with effect at once",
	example: "tidemill-bridge policy detach sensors 3f1a…",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "DELETE", "/v1/policies/"+url.PathEscape(c.args[0])+"/targets/"+url.PathEscape(c.args[1]),
				nil, nil, nil)
		})
	}}
