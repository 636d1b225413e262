package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// Access says what an access key may do, or the temporary keys of a role: what
// is not granted is denied.
type Access struct {
	Key string `toml:"key"` // id of a key
	All bool   `toml:"all"` // every operation of every service; keys only
	// names of policies in the registry, for MQTT and the data plane; instead of all
	Policies []string `toml:"policies"`
	Role     string   `toml:"role"` // ARN that role aliases have; instead of key
}

// Authorizer is a custom authorizer, asked by HTTP.
type Authorizer struct {
	Name            string   `toml:"name"`
	URL             string   `toml:"url"`
	TokenKey        string   `toml:"token_key"`
	PublicKeys      []string `toml:"public_keys"` // files, PEM, RSA
	SigningDisabled bool     `toml:"signing_disabled"`
	Status          string   `toml:"status"` // ACTIVE, or empty; INACTIVE
	Default         bool     `toml:"default"`
	Cache           bool     `toml:"cache"`     // for HTTPS: a verdict holds for its connection
	MaxCalls        int      `toml:"max_calls"` // under way at once; 0: 64
}

// Hook is where a pre-provisioning hook or the function of an authorizer is, asked
// by HTTP.
type Hook struct {
	ARN      string `toml:"arn"` // that templates and authorizers name it with
	URL      string `toml:"url"`
	MaxCalls int    `toml:"max_calls"` // under way at once, of the hook and of each authorizer; 0: 64
}

// ParseAccess reads the [[access]] tables of a file that holds nothing else.
func ParseAccess(text []byte) ([]Access, error) {
	c := new(Config)
	errs, err := decode(string(text), c)
	if err != nil {
		return nil, fmt.Errorf("want tables [[access]], each with a key or role, and all = true or policies: %w", err)
	}
	if all := c.Access; !reflect.DeepEqual(c, &Config{Access: all}) {
		errs = append(errs, errors.New("want [[access]] and nothing else"))
	}
	return c.Access, errors.Join(append(errs, checkAccess(c.Access)...)...)
}

// badTable is an error of a table that may be there several times.
func badTable(i int, table, format string, args ...any) error {
	return fmt.Errorf("%s[%d]."+format, append([]any{table, i}, args...)...)
}

// checkAccess is check for [[access]].
func checkAccess(all []Access) (errs []error) {
	seen := map[string]bool{}
	for i, a := range all {
		bad := func(format string, args ...any) { errs = append(errs, badTable(i, "access", format, args...)) }
		if (a.Key == "") == (a.Role == "") || seen[a.Key+a.Role] {
			bad("key: %q, want the id of an access key or, instead, the ARN of a role, once", a.Key)
		}
		seen[a.Key+a.Role] = true
		if slices.Contains(a.Policies, "") {
			bad("policies: empty name, want names of policies")
		}
		if a.All && (a.Role != "" || len(a.Policies) > 0) {
			bad("all: want it for a key alone, and no policies beside it")
		}
	}
	return errs
}

// checkHooks is check for the services that are asked by HTTP.
func (c *Config) checkHooks() (errs []error) {
	bad := func(i int, table, format string, args ...any) {
		errs = append(errs, badTable(i, table, format, args...))
	}
	checkService := func(i int, table, address string, maxCalls int) {
		if strings.HasPrefix(address, "arn:") && strings.Contains(address, ":lambda:") {
			elsewhere := slices.ContainsFunc(c.Actions, func(a Action) bool { return a.Kind == "lambda" })
			if !c.Lambda.Enabled && !elsewhere {
				bad(i, table, "url: %q is a function, and lambda.enabled is not set, nor [[actions]] for lambda",
					address)
			}
		} else if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			bad(i, table, "url: %q, want https://host/path, http, or the ARN of a function", withoutSecret(address))
		}
		if maxCalls < 0 || maxCalls > 4096 {
			bad(i, table, "max_calls: %d, want 1 to 4096, or 0 for 64", maxCalls)
		}
	}
	seen, def := map[string]bool{}, false
	for i, a := range c.Authorizers {
		const table = "authorizers"
		if a.Name == "" || len(a.Name) > 128 || strings.Trim(a.Name,
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=,@-") != "" || seen[a.Name] {
			bad(i, table, "name: %q, want 1 to 128 of A-Z a-z 0-9 _=,@-, once", a.Name)
		}
		seen[a.Name] = true
		checkService(i, table, a.URL, a.MaxCalls)
		if len(a.TokenKey) > 128 || strings.ContainsAny(a.TokenKey, " &=?:\r\n") {
			bad(i, table, "token_key: %q, want the name of a header, at most 128 bytes", a.TokenKey)
		}
		switch {
		case a.SigningDisabled && len(a.PublicKeys) > 0:
			bad(i, table, "public_keys: there are some, and signing_disabled is set")
		case !a.SigningDisabled && (len(a.PublicKeys) == 0 || a.TokenKey == ""):
			bad(i, table, "public_keys: want at least one and a token_key, or signing_disabled")
		}
		if !slices.Contains([]string{"", "ACTIVE", "INACTIVE"}, a.Status) {
			bad(i, table, "status: %q, want ACTIVE or INACTIVE", a.Status)
		}
		if a.Default && def {
			bad(i, table, "default: another one is it already")
		}
		def = def || a.Default
	}
	seen = map[string]bool{}
	for i, h := range c.Hooks {
		if len(h.ARN) == 0 || len(h.ARN) > 2048 || seen[h.ARN] {
			bad(i, "hooks", "arn: %.100q, want what templates have as targetArn, at most 2048 bytes, once", h.ARN)
		}
		seen[h.ARN] = true
		checkService(i, "hooks", h.URL, h.MaxCalls)
	}
	return errs
}

// mayLetIn says of a URL that it has more than a host: a user, a path or a query is often
// what lets in.
func mayLetIn(address string) bool {
	u, err := url.Parse(address)
	return err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != ""
}

// secretURL is the key of the first URL of a service that may let in; "" for none.
func (c *Config) secretURL() string {
	for i, a := range c.Authorizers {
		if mayLetIn(a.URL) {
			return fmt.Sprintf("authorizers[%d].url", i)
		}
	}
	for i, h := range c.Hooks {
		if mayLetIn(h.URL) {
			return fmt.Sprintf("hooks[%d].url", i)
		}
	}
	return c.secretTopic()
}

// withoutSecret is a URL without user and query.
func withoutSecret(s string) string {
	s, _, _ = strings.Cut(s, "?")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "…" + s[i:]
	}
	return s
}
