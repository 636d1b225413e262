package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// rightsFlags are those of what a user may do: roles and inline policies.
type rightsFlags struct {
	roles    []string
	policies map[string]json.RawMessage
}

// policyFlag adds -policy, a file that is named after the policy, or NAME=FILE.
func (f *rightsFlags) policyFlag(c *call, what string) {
	c.flags.Func("policy", what+", `NAME=FILE` or FILE, an IAM policy document; for several give several",
		func(text string) error {
			name, file, ok := strings.Cut(text, "=")
			if !ok {
				file = text
				name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
			}
			doc, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if !json.Valid(doc) {
				return fmt.Errorf("%s: not JSON", file)
			}
			if f.policies == nil {
				f.policies = map[string]json.RawMessage{}
			}
			f.policies[name] = doc
			return nil
		})
}

func (f *rightsFlags) roleFlag(c *call) {
	c.flags.Func("role", "`role`: "+strings.Join(people.Roles, ", ")+"; for several give several",
		func(role string) error {
			f.roles = append(f.roles, role)
			return nil
		})
}

var userCreate = command{name: "user create", args: "NAME",
	summary: "create a user, who may do what roles and policies allow, by access keys",
	example: `tidemill-bridge user create alice -role operator
tidemill-bridge user create importer -policy put-readings.json
tidemill-bridge access-key create alice -o alice.ini`,
	run: func(ctx context.Context, c *call) error {
		var f rightsFlags
		f.roleFlag(c)
		f.policyFlag(c, "a policy of the user's own")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			in := admin.NewUser{Name: c.args[0], Roles: f.roles, Policies: f.policies}
			if err := a.do(ctx, "POST", "/v1/users", nil, in, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.stdout, "user         %s\nroles        %s\n"+
				"next         tidemill-bridge access-key create %s\n", c.args[0], orNone(f.roles), c.args[0])
			return err
		})
	}}

var userChange = command{name: "user change", args: "NAME",
	summary: "give a user other roles, or other policies, in the place of those there are",
	example: `tidemill-bridge user change alice -role viewer
tidemill-bridge user change alice -no-roles -policy streams.json
tidemill-bridge user change alice -no-policies`,
	run: func(ctx context.Context, c *call) error {
		var f rightsFlags
		f.roleFlag(c)
		f.policyFlag(c, "a policy of the user's own")
		noRoles := c.flags.Bool("no-roles", false, "take all roles away")
		noPolicies := c.flags.Bool("no-policies", false, "take all policies away")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		path := "/v1/users/" + url.PathEscape(c.args[0])
		return c.with(ctx, func(a *client) error {
			var u people.UserInfo
			if err := a.do(ctx, "GET", path, nil, nil, &u); err != nil {
				return err
			}
			in := admin.NewUser{Roles: u.Roles, Policies: u.Policies}
			if f.roles != nil || *noRoles {
				in.Roles = f.roles
			}
			if f.policies != nil || *noPolicies {
				in.Policies = f.policies
			}
			return a.do(ctx, "PUT", path, nil, in, nil)
		})
	}}

var userList = command{name: "user list", summary: "list the users, their roles and keys",
	example: "tidemill-bridge user list\ntidemill-bridge user list -json",
	run: func(ctx context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return getAndPrint(ctx, c, *asJSON, "/v1/users", nil, func(all []people.UserInfo) error {
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "USER\tROLES\tPOLICIES\tPASSWORD\tKEYS")
			for _, u := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", u.Name, orNone(u.Roles), orNone(policyNames(u.Policies)),
					yesNo(u.Password), len(u.Keys))
			}
			return w.Flush()
		})
	}}

var userShow = command{name: "user show", args: "NAME", summary: "tell what a user may do, and by which keys",
	example: "tidemill-bridge user show alice\ntidemill-bridge user show alice -json",
	run: func(ctx context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		path := "/v1/users/" + url.PathEscape(c.args[0])
		return getAndPrint(ctx, c, *asJSON, path, nil, func(u people.UserInfo) error {
			fmt.Fprintf(c.stdout, "user      %s\nroles     %s\npolicies  %s\npassword  %s\ncreated   %s\n"+
				"changed   %s\n\n",
				u.Name, orNone(u.Roles), orNone(policyNames(u.Policies)), yesNo(u.Password), clockText(u.Created),
				clockText(u.Changed))
			for _, name := range policyNames(u.Policies) {
				if err := printPolicy(c.stdout, "policy "+name, u.Policies[name]); err != nil {
					return err
				}
			}
			for _, k := range u.Keys {
				for _, name := range policyNames(k.Policies) {
					if err := printPolicy(c.stdout, "policy "+name+" of key "+k.ID, k.Policies[name]); err != nil {
						return err
					}
				}
			}
			return printKeys(c, u.Keys)
		})
	}}

var userPasswd = command{name: "user passwd", args: "NAME",
	summary: "set a user's password, or take it away",
	example: `tidemill-bridge user passwd alice
pwgen 20 1 | tidemill-bridge user passwd alice
tidemill-bridge user passwd alice -remove`,
	run: func(ctx context.Context, c *call) error {
		remove := c.flags.Bool("remove", false, "the user has no password any more")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		var in admin.NewPassword
		if !*remove {
			var err error
			if in.Password, err = askPassword(os.Stdin, c.stderr); err != nil {
				return fmt.Errorf("user passwd: %w", err)
			}
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "PUT", "/v1/users/"+url.PathEscape(c.args[0])+"/password", nil, in, nil)
		})
	}}

var userRevoke = command{name: "user revoke", args: "NAME",
	summary: "delete a user with all keys; what they do ends at once",
	example: "tidemill-bridge user revoke alice",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "DELETE", "/v1/users/"+url.PathEscape(c.args[0]), nil, nil, nil)
		})
	}}

// maxPasswordLine bounds what is read, more than a password may have.
const maxPasswordLine = 4096

// askPassword reads the first line of in; from a terminal twice, and unseen.
func askPassword(in *os.File, out io.Writer) (string, error) {
	read := bufio.NewReader(io.LimitReader(in, maxPasswordLine))
	line := func() (string, error) {
		text, err := read.ReadString('\n')
		if errors.Is(err, io.EOF) && text != "" {
			err = nil
		}
		return strings.TrimRight(text, "\r\n"), err
	}
	if !isTerminal(in) {
		return orEmpty(line())
	}
	show, err := hideInput(in)
	if err != nil {
		return "", err
	}
	defer show()
	fmt.Fprint(out, "password: ")
	first, err := orEmpty(line())
	fmt.Fprint(out, "\nagain: ")
	if err != nil {
		return "", err
	}
	second, err := orEmpty(line())
	fmt.Fprintln(out)
	if err == nil && first != second {
		err = errors.New("the two are not the same")
	}
	return first, err
}

func orEmpty(text string, err error) (string, error) {
	if err == nil && text == "" || errors.Is(err, io.EOF) {
		return "", errors.New("no password was given; -remove takes it away")
	}
	return text, err
}

// printPolicy prints a policy document below what it is.
func printPolicy(w io.Writer, what string, doc json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "  ", "  "); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, err := fmt.Fprintf(w, "%s\n  %s\n\n", what, b.String())
	return err
}

func policyNames(policies map[string]json.RawMessage) (names []string) {
	for name := range policies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
