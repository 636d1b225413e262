package server

import (
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/agent/secretfile"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/speed/action/send"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/search"
)

// newSenders returns what does deliveries of rule actions. functions may be nil.
func newSenders(c *config.Config, objects sink.Objects, functions send.Invoker) (*send.Set, error) {
	o := send.Options{Places: map[string]awsapi.Place{}, Region: c.Region, Account: c.Account, Functions: functions,
		Search: map[string]search.Authorize{}}
	if !remote(c, "s3") {
		o.Objects = objects
	}
	for i, a := range c.Actions {
		o.Places[a.Kind] = awsapi.Place{Region: a.Region, EndpointURL: a.EndpointURL, Profile: a.Profile,
			RoleARN: a.RoleARN}
		switch a.Auth {
		case "none":
			o.Search[a.Kind] = search.Open
		case "basic":
			password, err := secretfile.Read(a.PasswordFile)
			if err != nil {
				return nil, fmt.Errorf("actions[%d].password_file: %w", i, err)
			}
			o.Search[a.Kind] = search.Basic(a.Username, strings.TrimSpace(string(password)))
		}
	}
	return send.New(o), nil
}

// remote says whether actions of a kind that the bridge serves go elsewhere.
func remote(c *config.Config, kind string) bool {
	for _, a := range c.Actions {
		if a.Kind == kind {
			return a.Remote
		}
	}
	return false
}
