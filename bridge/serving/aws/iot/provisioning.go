package iot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

func (c *controlPlane) provisioning() []operation {
	return []operation{
		{"CreateProvisioningTemplate", "POST", "/provisioning-templates", c.createTemplate},
		{"ListProvisioningTemplates", "GET", "/provisioning-templates", c.listTemplates},
		{"DescribeProvisioningTemplate", "GET", "/provisioning-templates/:templateName", c.describeTemplate},
		{"UpdateProvisioningTemplate", "PATCH", "/provisioning-templates/:templateName", c.updateTemplate},
		{"DeleteProvisioningTemplate", "DELETE", "/provisioning-templates/:templateName", c.deleteTemplate},
		{"CreateProvisioningTemplateVersion", "POST", "/provisioning-templates/:templateName/versions",
			c.createTemplateVersion},
		{"ListProvisioningTemplateVersions", "GET", "/provisioning-templates/:templateName/versions",
			c.listTemplateVersions},
		{"DescribeProvisioningTemplateVersion", "GET", "/provisioning-templates/:templateName/versions/:versionId",
			c.describeTemplateVersion},
		{"DeleteProvisioningTemplateVersion", "DELETE", "/provisioning-templates/:templateName/versions/:versionId",
			c.deleteTemplateVersion},
		{"CreateProvisioningClaim", "POST", "/provisioning-templates/:templateName/provisioning-claim", c.createClaim},
		{"RegisterThing", "POST", "/things", c.registerThing},
	}
}

// payloadVersion is that of what hooks are asked, the only one.
const payloadVersion = "2020-04-01"

// A templateRequest is that of CreateProvisioningTemplate, and of Update and of
// CreateProvisioningTemplateVersion, which have parts of it.
type templateRequest struct {
	Name        string                `json:"templateName"`
	Description *string               `json:"description"`
	Body        string                `json:"templateBody"`
	Enabled     *bool                 `json:"enabled"`
	Role        *string               `json:"provisioningRoleArn"`
	Hook        *templateHook         `json:"preProvisioningHook"`
	RemoveHook  bool                  `json:"removePreProvisioningHook"`
	Default     *int                  `json:"defaultVersionId"`
	Type        registry.TemplateType `json:"type"`
	Tags        []tag                 `json:"tags"`
}

type templateHook struct {
	Version string `json:"payloadVersion"`
	Target  string `json:"targetArn"`
}

// hook is what the registry keeps of a hook, which the bridge must know.
func (c *controlPlane) hook(in *templateHook) (*registry.Hook, error) {
	if in == nil {
		return nil, nil
	}
	if v := cmp.Or(in.Version, payloadVersion); v != payloadVersion {
		return nil, fmt.Errorf("%w: preProvisioningHook.payloadVersion: %.40q, want %s",
			registry.ErrInvalid, in.Version, payloadVersion)
	}
	if !c.provision.Hooked(in.Target) {
		return nil, fmt.Errorf(
			"%w: preProvisioningHook.targetArn: %.200q is no arn of [[hooks]] in the bridge's configuration, "+
				"and the bridge has no such function", registry.ErrInvalid, in.Target)
	}
	return &registry.Hook{Target: in.Target, PayloadVersion: payloadVersion}, nil
}

// set changes a template by what a request has.
func (c *controlPlane) set(tp *registry.Template, in *templateRequest) error {
	hook, err := c.hook(in.Hook)
	switch {
	case err != nil:
		return err
	case hook != nil && in.RemoveHook:
		return fmt.Errorf("%w: preProvisioningHook: there is one, and removePreProvisioningHook is set",
			registry.ErrInvalid)
	case hook != nil || in.RemoveHook:
		tp.Hook = hook
	}
	if in.Description != nil {
		tp.Description = *in.Description
	}
	if in.Enabled != nil {
		tp.Enabled = *in.Enabled
	}
	if in.Role != nil {
		tp.Role = *in.Role
	}
	if in.Default != nil {
		tp.Default = *in.Default
	}
	return nil
}

// parsed checks a template's body. Its errors are InvalidRequestException.
func parsed(body string) ([]byte, error) {
	if _, err := provision.ParseNew([]byte(body)); err != nil {
		return nil, fmt.Errorf("%w: templateBody: %w", registry.ErrInvalid, err)
	}
	return []byte(body), nil
}

type templateAnswer struct {
	ARN     string `json:"templateArn"`
	Name    string `json:"templateName"`
	Default int    `json:"defaultVersionId,omitempty"`
}

func (c *controlPlane) templateARN(r *wire.Request, name string) string {
	return c.arn(r, "provisioningtemplate", name)
}

func (c *controlPlane) createTemplate(r *wire.Request) (any, error) {
	var in templateRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	body, err := parsed(in.Body)
	if err != nil {
		return nil, err
	}
	tp := registry.Template{Name: in.Name, Type: in.Type}
	in.Default = nil // the first version
	if err := c.set(&tp, &in); err != nil {
		return nil, err
	}
	err = ofProvisioning.Update(r.Context(), c.registry, func(tx templateRecords) (err error) {
		if tp, err = tx.CreateTemplate(tp, body); err != nil {
			return err
		}
		return tx.Tag("provisioningtemplate/"+in.Name, tagMap(in.Tags))
	})
	return templateAnswer{c.templateARN(r, in.Name), in.Name, tp.Default}, err
}

func (c *controlPlane) describeTemplate(r *wire.Request) (any, error) {
	out := struct {
		templateAnswer
		Description string                `json:"description,omitempty"`
		Created     float64               `json:"creationDate"`
		Modified    float64               `json:"lastModifiedDate"`
		Body        string                `json:"templateBody"`
		Enabled     bool                  `json:"enabled"`
		Role        string                `json:"provisioningRoleArn,omitempty"`
		Hook        map[string]string     `json:"preProvisioningHook,omitempty"`
		Type        registry.TemplateType `json:"type"`
	}{}
	err := ofProvisioning.View(c.registry, func(tx templateRecords) error {
		tp, err := tx.Template(r.Path("templateName"))
		if err != nil {
			return err
		}
		body, err := tx.TemplateBody(tp.Name, 0)
		out.templateAnswer = templateAnswer{c.templateARN(r, tp.Name), tp.Name, tp.Default}
		out.Description, out.Body = tp.Description, string(body)
		out.Created, out.Modified = seconds(tp.Created), seconds(tp.Modified)
		out.Enabled, out.Role, out.Type = tp.Enabled, tp.Role, tp.Type
		if tp.Hook != nil {
			out.Hook = map[string]string{"targetArn": tp.Hook.Target, "payloadVersion": tp.Hook.PayloadVersion}
		}
		return err
	})
	return out, err
}

func (c *controlPlane) updateTemplate(r *wire.Request) (any, error) {
	var in templateRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	err := ofProvisioning.Update(r.Context(), c.registry, func(tx templateRecords) error {
		return tx.UpdateTemplate(r.Path("templateName"), func(tp *registry.Template) error { return c.set(tp, &in) })
	})
	return struct{}{}, err
}

func (c *controlPlane) deleteTemplate(r *wire.Request) (any, error) {
	err := ofProvisioning.Update(r.Context(), c.registry, func(tx templateRecords) error {
		return tx.DeleteTemplate(r.Path("templateName"))
	})
	return struct{}{}, instead(err, registry.ErrConflict, "DeleteConflictException", 409)
}

func (c *controlPlane) listTemplates(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	type entry struct {
		templateAnswer
		Description string                `json:"description,omitempty"`
		Created     float64               `json:"creationDate"`
		Modified    float64               `json:"lastModifiedDate"`
		Enabled     bool                  `json:"enabled"`
		Type        registry.TemplateType `json:"type"`
	}
	out := struct {
		Templates []entry `json:"templates"`
		Next      string  `json:"nextToken,omitempty"`
	}{Templates: []entry{}}
	err = ofProvisioning.View(c.registry, func(tx templateRecords) error {
		all, next, err := tx.Templates(after, n)
		for _, tp := range all {
			out.Templates = append(out.Templates,
				entry{templateAnswer{c.templateARN(r, tp.Name), tp.Name, 0}, tp.Description,
					seconds(tp.Created), seconds(tp.Modified), tp.Enabled, tp.Type})
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

func (c *controlPlane) createTemplateVersion(r *wire.Request) (any, error) {
	var in templateRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	isDefault, err := flag(r, "setAsDefault")
	if err != nil {
		return nil, err
	}
	body, err := parsed(in.Body)
	if err != nil {
		return nil, err
	}
	name, n := r.Path("templateName"), 0
	err = ofProvisioning.Update(r.Context(), c.registry, func(tx templateRecords) (err error) {
		n, err = tx.CreateTemplateVersion(name, body, isDefault)
		return err
	})
	return struct {
			templateAnswer
			Version int  `json:"versionId"`
			Default bool `json:"isDefaultVersion"`
		}{templateAnswer{c.templateARN(r, name), name, 0}, n, isDefault},
		instead(err, registry.ErrLimit, "VersionsLimitExceededException", 409)
}

type templateVersion struct {
	Version int     `json:"versionId"`
	Created float64 `json:"creationDate"`
	Default bool    `json:"isDefaultVersion"`
}

// listTemplateVersions answers with all of them: there are few.
func (c *controlPlane) listTemplateVersions(r *wire.Request) (any, error) {
	out := map[string][]templateVersion{"versions": {}}
	err := ofProvisioning.View(c.registry, func(tx templateRecords) error {
		tp, err := tx.Template(r.Path("templateName"))
		for _, v := range tp.Versions {
			out["versions"] = append(out["versions"],
				templateVersion{v.Number, seconds(v.Created), v.Number == tp.Default})
		}
		return err
	})
	return out, err
}

// templateVersionID is the number of a template's version in the path.
func templateVersionID(r *wire.Request) (int, error) {
	n, err := strconv.Atoi(r.Path("versionId"))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: versionId: %.20q, want a number", registry.ErrInvalid, r.Path("versionId"))
	}
	return n, nil
}

func (c *controlPlane) describeTemplateVersion(r *wire.Request) (any, error) {
	n, err := templateVersionID(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		templateVersion
		Body string `json:"templateBody"`
	}{}
	err = ofProvisioning.View(c.registry, func(tx templateRecords) error {
		tp, err := tx.Template(r.Path("templateName"))
		if err != nil {
			return err
		}
		body, err := tx.TemplateBody(tp.Name, n)
		out.Body = string(body)
		for _, v := range tp.Versions {
			if v.Number == n {
				out.templateVersion = templateVersion{n, seconds(v.Created), n == tp.Default}
			}
		}
		return err
	})
	return out, err
}

func (c *controlPlane) deleteTemplateVersion(r *wire.Request) (any, error) {
	n, err := templateVersionID(r)
	if err != nil {
		return nil, err
	}
	err = ofProvisioning.Update(r.Context(), c.registry, func(tx templateRecords) error {
		return tx.DeleteTemplateVersion(r.Path("templateName"), n)
	})
	return struct{}{}, instead(err, registry.ErrConflict, "DeleteConflictException", 409)
}

func (c *controlPlane) createClaim(r *wire.Request) (any, error) {
	claim, err := c.provision.CreateClaim(r.Context(), r.Path("templateName"))
	if err != nil {
		return nil, instead(err, registry.ErrLimit, "ThrottlingException", 429)
	}
	return struct {
		ID      string            `json:"certificateId"`
		PEM     string            `json:"certificatePem"`
		Keys    map[string]string `json:"keyPair"`
		Expires float64           `json:"expiration"`
	}{claim.ID, claim.PEM, map[string]string{"PublicKey": claim.PublicKey, "PrivateKey": claim.Key},
		seconds(claim.Expires)}, nil
}

func (c *controlPlane) registerThing(r *wire.Request) (any, error) {
	var in struct {
		Body       string            `json:"templateBody"`
		Parameters map[string]string `json:"parameters"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	made, err := c.provision.RegisterThing(r.Context(), []byte(in.Body), in.Parameters)
	for _, is := range []error{provision.ErrTemplate, pki.ErrRequest} {
		err = instead(err, is, "InvalidRequestException", 400)
	}
	for _, is := range []error{provision.ErrResource, registry.ErrNotFound, registry.ErrExists, registry.ErrLimit,
		registry.ErrConflict, registry.ErrInvalid, authz.ErrMalformed} {
		err = instead(err, is, "ResourceRegistrationFailureException", 400)
	}
	if err != nil {
		return nil, err
	}
	out := struct {
		PEM       string            `json:"certificatePem,omitempty"`
		Resources map[string]string `json:"resourceArns"`
	}{string(made.PEM), map[string]string{}}
	for name, resource := range made.Resources {
		out.Resources[name] = arn.IoT(r.Region, c.account, resource)
	}
	return out, nil
}

// registration checks the registrationConfig of a CA. A template that it names
// must be there, since devices would be refused without a word to whoever has
// set it up.
func (c *controlPlane) registration(config json.RawMessage) error {
	if len(config) == 0 || string(config) == "null" {
		return nil
	}
	in, err := provision.ParseRegistration(config)
	if err == nil && in.TemplateName != "" {
		err = ofProvisioning.View(c.registry, func(tx templateRecords) error {
			tp, err := tx.Template(in.TemplateName)
			if errors.Is(err, registry.ErrNotFound) || err == nil && tp.Type != registry.JITP {
				return fmt.Errorf("registrationConfig.templateName: %.40q is no template of type %s",
					in.TemplateName, registry.JITP)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	return nil
}
