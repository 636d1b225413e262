package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// An Action says where the service is that actions of a kind call. What is empty
// is found as AWS's tools find it: in the environment and the shared files.
type Action struct {
	Kind         string `toml:"kind"`   // as in topic rules
	Remote       bool   `toml:"remote"` // of a kind that the bridge serves itself: it does not
	EndpointURL  string `toml:"endpoint_url"`
	Region       string `toml:"region"`
	Profile      string `toml:"profile"`
	RoleARN      string `toml:"role_arn"` // assumed for every call
	Account      string `toml:"account"`  // of stepFunctions: whose state machines; "": the bridge's
	Auth         string `toml:"auth"`     // of searches: "" or aws, none, basic
	Username     string `toml:"username"` // of basic
	PasswordFile string `toml:"password_file"`
}

// A Local says when the bridge serves a kind of action itself.
type local int

// Kinds of actions are elsewhere; or of the bridge's own unless the action is remote;
// or that, unless something says where else the service is.
const (
	elsewhere local = iota
	unlessRemote
	unlessPlaced
)

// actionKinds are those that call a service.
var actionKinds = map[string]local{
	"cloudwatchAlarm": unlessPlaced, "cloudwatchLogs": elsewhere, "cloudwatchMetric": unlessPlaced,
	"dynamoDB": elsewhere, "dynamoDBv2": elsewhere, "elasticsearch": elsewhere, "firehose": unlessRemote,
	"iotAnalytics": unlessRemote, "kinesis": unlessRemote, "lambda": elsewhere, "openSearch": elsewhere,
	"s3": unlessRemote, "salesforce": elsewhere, "sns": elsewhere, "sqs": unlessRemote, "stepFunctions": elsewhere,
}

// Elsewhere says whether actions of a kind that the bridge serves itself call a
// service elsewhere instead.
func (c *Config) Elsewhere(kind string) bool {
	for _, a := range c.Actions {
		if a.Kind == kind {
			return a.Remote || actionKinds[kind] == unlessPlaced && a.placed()
		}
	}
	return false
}

// placed says whether something tells where the service is.
func (a *Action) placed() bool {
	return a.EndpointURL != "" || a.Region != "" || a.Profile != "" || a.RoleARN != ""
}

// isSearch says whether a kind takes an auth of its own.
func (a *Action) isSearch() bool { return a.Kind == "elasticsearch" || a.Kind == "openSearch" }

func (c *Config) checkActions() (errs []error) {
	seen := map[string]bool{}
	for i, a := range c.Actions {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("actions[%d].%w", i, fmt.Errorf(format, args...)))
		}
		local, known := actionKinds[a.Kind]
		switch {
		case !known:
			bad("kind: %q, want one of %s", a.Kind, strings.Join(slices.Sorted(maps.Keys(actionKinds)), ", "))
		case seen[a.Kind]:
			bad("kind: %q stands twice", a.Kind)
		}
		seen[a.Kind] = true
		if known && a.Remote && local == elsewhere {
			bad("remote: %s is always elsewhere", a.Kind)
		}
		if a.EndpointURL != "" {
			if u, err := url.Parse(a.EndpointURL); err != nil || u.Scheme != "http" && u.Scheme != "https" ||
				u.Host == "" || u.User != nil || u.RawQuery != "" {
				bad("endpoint_url: want http or https, a host, and neither user nor query")
			}
			if local == unlessRemote && !a.Remote {
				bad("endpoint_url: the bridge serves %s itself, unless remote = true", a.Kind)
			}
		}
		if a.Account != "" && (len(a.Account) != 12 || strings.Trim(a.Account, "0123456789") != "" ||
			a.Kind != "stepFunctions") {
			bad("account: %q, want 12 digits, and the kind stepFunctions", a.Account)
		}
		if a.Kind == "salesforce" && (a.Region != "" || a.Profile != "" || a.RoleARN != "") {
			bad("region: salesforce has no AWS credentials; only endpoint_url acts")
		}
		switch basic := a.Auth == "basic"; {
		case a.Auth != "" && !a.isSearch():
			bad("auth: only elasticsearch and openSearch have one")
		case !slices.Contains([]string{"", "aws", "none", "basic"}, a.Auth):
			bad("auth: %q, want aws, none or basic", a.Auth)
		case basic && (a.Username == "" || a.PasswordFile == "" || a.EndpointURL == ""):
			bad("auth: basic needs username, password_file, and endpoint_url, so that no rule sends them elsewhere")
		case !basic && (a.Username != "" || a.PasswordFile != ""):
			bad("username: it is for auth = \"basic\"")
		}
	}
	return errs
}
