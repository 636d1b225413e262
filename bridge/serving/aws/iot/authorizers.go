package iot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/customauth"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// Authorizers are the custom authorizers as they are asked. The registry has
// those that the API makes; there may be others, which the API doesn't show.
type Authorizers interface {
	// Usable returns an error if an authorizer could not be asked: its function
	// is none that is known, a key of it is none, its name is another's.
	Usable(a *registry.Authorizer) error
	// Standard is the default authorizer of those that the API doesn't show, ""
	// for none. It is asked whatever the registry's default is.
	Standard() string
	// Test asks an authorizer about an attempt, with a token and its signature
	// where they are given. The error is customauth.ErrRefused or customauth.ErrFailed.
	Test(ctx context.Context, name, token, signature string, a *customauth.Attempt) (*customauth.Verdict, error)
}

func (c *controlPlane) customAuthorizers() []operation {
	return []operation{
		{"CreateAuthorizer", "POST", "/authorizer/:authorizerName", c.createAuthorizer},
		{"DescribeAuthorizer", "GET", "/authorizer/:authorizerName", c.describeAuthorizer},
		{"UpdateAuthorizer", "PUT", "/authorizer/:authorizerName", c.updateAuthorizer},
		{"DeleteAuthorizer", "DELETE", "/authorizer/:authorizerName", c.deleteAuthorizer},
		{"ListAuthorizers", "GET", "/authorizers/", c.listAuthorizers},
		{"ListAuthorizers", "GET", "/authorizers", c.listAuthorizers},
		{"TestInvokeAuthorizer", "POST", "/authorizer/:authorizerName/test", c.testAuthorizer},
		{"SetDefaultAuthorizer", "POST", "/default-authorizer", c.setDefaultAuthorizer},
		{"DescribeDefaultAuthorizer", "GET", "/default-authorizer", c.describeDefaultAuthorizer},
		{"ClearDefaultAuthorizer", "DELETE", "/default-authorizer", c.clearDefaultAuthorizer},
	}
}

type authorizerRequest struct {
	Function        string            `json:"authorizerFunctionArn"`
	TokenKey        *string           `json:"tokenKeyName"`
	Keys            map[string]string `json:"tokenSigningPublicKeys"`
	Status          registry.Status   `json:"status"`
	SigningDisabled bool              `json:"signingDisabled"`
	Cache           *bool             `json:"enableCachingForHttp"`
	Tags            []tag             `json:"tags"`
}

// change makes of a what the request asks for; signing is not changed by an update.
func (in *authorizerRequest) change(a *registry.Authorizer) {
	if in.Function != "" {
		a.Function = in.Function
	}
	if in.TokenKey != nil {
		a.TokenKey = *in.TokenKey
	}
	if in.Keys != nil {
		a.Keys = maps.Clone(in.Keys)
	}
	if in.Status != "" {
		a.Status = in.Status
	}
	if in.Cache != nil {
		a.Cache = *in.Cache
	}
}

type authorizerID struct {
	Name string `json:"authorizerName"`
	ARN  string `json:"authorizerArn"`
}

func (c *controlPlane) authorizerID(r *wire.Request, name string) authorizerID {
	return authorizerID{name, c.arn(r, "authorizer", name)}
}

func (c *controlPlane) createAuthorizer(r *wire.Request) (any, error) {
	var in authorizerRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	a := registry.Authorizer{Name: r.Path("authorizerName"), SigningDisabled: in.SigningDisabled}
	in.change(&a)
	if err := c.authorizers.Usable(&a); err != nil {
		return nil, err
	}
	return c.authorizerID(r, a.Name), ofAuthorizers.Update(r.Context(), c.registry, func(tx authorizerRecords) error {
		if err := tx.CreateAuthorizer(a); err != nil {
			return err
		}
		return tx.Tag("authorizer/"+a.Name, tagMap(in.Tags))
	})
}

func (c *controlPlane) updateAuthorizer(r *wire.Request) (any, error) {
	var in authorizerRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	name := r.Path("authorizerName")
	return c.authorizerID(r, name), ofAuthorizers.Update(r.Context(), c.registry, func(tx authorizerRecords) error {
		if err := tx.UpdateAuthorizer(name, in.change); err != nil {
			return err
		}
		a, err := tx.Authorizer(name)
		if err != nil {
			return err
		}
		return c.authorizers.Usable(&a)
	})
}

func (c *controlPlane) deleteAuthorizer(r *wire.Request) (any, error) {
	err := ofAuthorizers.Update(r.Context(), c.registry, func(tx authorizerRecords) error {
		return tx.DeleteAuthorizer(r.Path("authorizerName"))
	})
	return nil, instead(err, registry.ErrInUse, "DeleteConflictException", 409)
}

func (c *controlPlane) describeAuthorizer(r *wire.Request) (any, error) {
	return c.describe(r, func(authorizerRecords) string { return r.Path("authorizerName") })
}

func (c *controlPlane) describeDefaultAuthorizer(r *wire.Request) (any, error) {
	return c.describe(r, authorizerRecords.DefaultAuthorizer)
}

// describe tells of the authorizer that which names.
func (c *controlPlane) describe(r *wire.Request, which func(authorizerRecords) string) (any, error) {
	var a registry.Authorizer
	err := ofAuthorizers.View(c.registry, func(tx authorizerRecords) (err error) {
		a, err = tx.Authorizer(which(tx))
		return err
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"authorizerDescription": struct {
		authorizerID
		Function        string            `json:"authorizerFunctionArn"`
		TokenKey        string            `json:"tokenKeyName,omitempty"`
		Keys            map[string]string `json:"tokenSigningPublicKeys"`
		Status          registry.Status   `json:"status"`
		Created         float64           `json:"creationDate"`
		Modified        float64           `json:"lastModifiedDate"`
		SigningDisabled bool              `json:"signingDisabled"`
		Cache           bool              `json:"enableCachingForHttp"`
	}{c.authorizerID(r, a.Name), a.Function, a.TokenKey, notNil(a.Keys), a.Status, seconds(a.Created),
		seconds(a.Modified), a.SigningDisabled, a.Cache}}, nil
}

func (c *controlPlane) listAuthorizers(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		All  []authorizerID `json:"authorizers"`
		Next string         `json:"nextMarker,omitempty"`
	}{All: []authorizerID{}}
	status := registry.Status(r.Query.Get("status"))
	err = ofAuthorizers.View(c.registry, func(tx authorizerRecords) error {
		all, next, err := tx.Authorizers(after, n)
		for _, a := range all {
			if status == "" || a.Status == status {
				out.All = append(out.All, c.authorizerID(r, a.Name))
			}
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

func (c *controlPlane) setDefaultAuthorizer(r *wire.Request) (any, error) {
	var in struct {
		Name string `json:"authorizerName"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, fmt.Errorf("%w: no authorizerName", registry.ErrInvalid)
	}
	return c.authorizerID(r, in.Name), ofAuthorizers.Update(r.Context(), c.registry, func(tx authorizerRecords) error {
		_, err := tx.Authorizer(in.Name)
		if name := c.authorizers.Standard(); err == nil && name != "" {
			err = fmt.Errorf("default authorizer: %s of the configuration is: %w", name, registry.ErrExists)
		}
		if err != nil {
			return err
		}
		return tx.SetDefaultAuthorizer(in.Name)
	})
}

func (c *controlPlane) clearDefaultAuthorizer(r *wire.Request) (any, error) {
	return nil, ofAuthorizers.Update(r.Context(), c.registry, func(tx authorizerRecords) error {
		return tx.SetDefaultAuthorizer("")
	})
}

func (c *controlPlane) testAuthorizer(r *wire.Request) (any, error) {
	var in struct {
		Token     string `json:"token"`
		Signature string `json:"tokenSignature"`
		HTTP      *struct {
			Headers map[string]string `json:"headers"`
			Query   string            `json:"queryString"`
		} `json:"httpContext"`
		MQTT *struct {
			Username string `json:"username"`
			Password []byte `json:"password"`
			ClientID string `json:"clientId"`
		} `json:"mqttContext"`
		TLS *struct {
			ServerName string `json:"serverName"`
		} `json:"tlsContext"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	a := &customauth.Attempt{}
	if in.HTTP != nil {
		a.HTTP = &customauth.HTTP{Headers: map[string]string{}, QueryString: in.HTTP.Query}
		for k, v := range in.HTTP.Headers {
			a.HTTP.Headers[strings.ToLower(k)] = v
		}
	}
	if in.MQTT != nil {
		a.MQTT = &customauth.MQTT{Username: in.MQTT.Username, Password: in.MQTT.Password, ClientID: in.MQTT.ClientID}
	}
	if in.TLS != nil {
		a.TLS, a.ServerName = true, in.TLS.ServerName
	}
	name := r.Path("authorizerName")
	if err := ofAuthorizers.View(c.registry, func(tx authorizerRecords) error {
		_, err := tx.Authorizer(name)
		return err
	}); err != nil {
		return nil, err
	}
	v, err := c.authorizers.Test(r.Context(), name, in.Token, in.Signature, a)
	switch {
	case errors.Is(err, customauth.ErrRefused):
		return map[string]any{"isAuthenticated": false}, nil
	case err != nil:
		return nil, wire.Errorf(400, "InvalidResponseException", "%v", err)
	}
	documents := []string{}
	for _, d := range v.Documents {
		documents = append(documents, compact(json.RawMessage(d)))
	}
	return struct {
		Authenticated bool     `json:"isAuthenticated"`
		Principal     string   `json:"principalId"`
		Documents     []string `json:"policyDocuments"`
		Refresh       int      `json:"refreshAfterInSeconds"`
		Disconnect    int      `json:"disconnectAfterInSeconds"`
	}{true, v.Principal, documents, int(v.Refresh.Seconds()), int(v.Disconnect.Seconds())}, nil
}
