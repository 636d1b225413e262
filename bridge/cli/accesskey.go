package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// A keyFile is where the secret of a key goes: a file, or standard output.
type keyFile struct{ file, profile string }

func newKeyFile(c *call) *keyFile {
	f := &keyFile{}
	c.flags.StringVar(&f.file, "o", "",
		"`file` to write, for its owner alone; it must not be there yet (default: standard output)")
	c.flags.StringVar(&f.profile, "profile", "default", "`name` of the profile in it")
	return f
}

// check is called before there is a key that nobody would have the secret of.
func (f *keyFile) check() error {
	if f.profile == "" || strings.ContainsAny(f.profile, "[]\r\n") {
		return usagef("-profile %q: want a name for between [ and ]", f.profile)
	}
	if f.file == "" {
		return nil
	}
	if _, err := os.Lstat(f.file); err == nil {
		return fmt.Errorf("%s is there already; it is not overwritten", f.file)
	}
	try, err := os.CreateTemp(filepath.Dir(f.file), ".access-key-*")
	if err != nil {
		return fmt.Errorf("no file can be made there, so no key is made: %w", err)
	}
	return errors.Join(try.Close(), os.Remove(try.Name()))
}

// write writes a key in the format of AWS's shared credentials file.
func (f *keyFile) write(c *call, k admin.CreatedKey) error {
	text := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", f.profile, k.ID, k.Secret)
	if f.file == "" {
		if _, err := fmt.Fprint(c.stdout, text); err != nil {
			return fmt.Errorf("access key %s is there, but its secret is lost: revoke it: %w", k.ID, err)
		}
		return nil
	}
	if err := writeNew(f.file, text); err != nil {
		return fmt.Errorf("access key %s is there, but its secret is lost: revoke it: %w", k.ID, err)
	}
	_, err := fmt.Fprintf(c.stdout, "access key   %s\nuser         %s\nwritten      %s\n"+
		"next         AWS_SHARED_CREDENTIALS_FILE=%s aws ...\n", k.ID, k.User, f.file, f.file)
	return err
}

var accessKeyCreate = command{name: "access-key create", args: "USER",
	summary: "create an access key of a user; its secret is printed once, as AWS's shared credentials file has it",
	example: `tidemill-bridge access-key create alice -o alice.ini
tidemill-bridge access-key create alice -policy only-readings.json >> ~/.aws/credentials`,
	run: func(ctx context.Context, c *call) error {
		var f rightsFlags
		f.policyFlag(c, "a policy that must allow it too: the key may do less than the user")
		to := newKeyFile(c)
		if err := c.parse(1, 1); err != nil {
			return err
		}
		if err := to.check(); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var k admin.CreatedKey
			in := admin.NewAccessKey{User: c.args[0], Policies: f.policies}
			if err := a.do(ctx, "POST", "/v1/access-keys", nil, in, &k); err != nil {
				return err
			}
			return to.write(c, k)
		})
	}}

var accessKeyList = command{name: "access-key list", args: "[USER]",
	summary: "list the access keys of all users and of files, or of one user, and when each was used last",
	example: "tidemill-bridge access-key list\ntidemill-bridge access-key list alice -json",
	run: func(ctx context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0, 1); err != nil {
			return err
		}
		query := url.Values{}
		if len(c.args) > 0 {
			query.Set("user", c.args[0])
		}
		return getAndPrint(ctx, c, *asJSON, "/v1/access-keys", query, func(all []people.KeyInfo) error {
			return printKeys(c, all)
		})
	}}

// printKeys prints a table of keys.
func printKeys(c *call, all []people.KeyInfo) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tUSER\tSTATUS\tMAY\tCREATED\tENDS\tLAST USED")
	for _, k := range all {
		may, status := "as the user", string(k.Status)
		switch {
		case k.Declared != "":
			may = k.Grants + ", declared in " + k.Declared
		case len(k.Policies) > 0:
			may = "as the user, within " + strings.Join(policyNames(k.Policies), ", ")
		}
		if !k.Ends.IsZero() && !time.Now().Before(k.Ends) {
			status = "ENDED"
		}
		used := clockText(k.Used)
		if k.Service != "" {
			used += " " + k.Service
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, cmp.Or(k.User, "-"), status, may,
			clockText(k.Created), clockText(k.Ends), used)
	}
	return w.Flush()
}

// clockText is a time for a table, - for none.
func clockText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateTime)
}

var accessKeyRotate = command{name: "access-key rotate", args: "KEY",
	summary: "create a key beside one of the same user, which ends after a time",
	example: `tidemill-bridge access-key rotate AKIAIOSFODNN7EXAMPLE -o alice.new.ini
tidemill-bridge access-key rotate AKIAIOSFODNN7EXAMPLE -after 1h`,
	run: func(ctx context.Context, c *call) error {
		after := c.flags.Duration("after", 24*time.Hour, "`time` for which the key of before still holds; 0 for none")
		to := newKeyFile(c)
		if err := c.parse(1, 1); err != nil {
			return err
		}
		if err := to.check(); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var k admin.CreatedKey
			path := "/v1/access-keys/" + url.PathEscape(c.args[0]) + "/rotate"
			if err := a.do(ctx, "POST", path, nil, admin.Rotation{After: *after}, &k); err != nil {
				return err
			}
			return to.write(c, k)
		})
	}}

var accessKeyRevoke = command{name: "access-key revoke", args: "KEY",
	summary: "delete an access key; what it does ends at once",
	example: "tidemill-bridge access-key revoke AKIAIOSFODNN7EXAMPLE",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "DELETE", "/v1/access-keys/"+url.PathEscape(c.args[0]), nil, nil, nil)
		})
	}}

var (
	accessKeyActivate   = accessKeyStatus("activate", "let an access key in again", registry.Active)
	accessKeyDeactivate = accessKeyStatus("deactivate", "let an access key in no more, until it is activated",
		registry.Inactive)
)

func accessKeyStatus(verb, summary string, status registry.Status) command {
	return command{name: "access-key " + verb, args: "KEY", summary: summary,
		example: "tidemill-bridge access-key " + verb + " AKIAIOSFODNN7EXAMPLE",
		run: func(ctx context.Context, c *call) error {
			if err := c.parse(1, 1); err != nil {
				return err
			}
			return c.with(ctx, func(a *client) error {
				path := "/v1/access-keys/" + url.PathEscape(c.args[0])
				return a.do(ctx, "POST", path, nil, admin.KeyStatus{Status: status}, nil)
			})
		}}
}
