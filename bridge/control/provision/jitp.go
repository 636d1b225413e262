package provision

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A Registration is the registrationConfig of a CA: with a template, of its own
// or by name, devices with a certificate that it has signed are provisioned by
// their first connection (just-in-time provisioning).
type Registration struct {
	TemplateBody string `json:"templateBody"`
	TemplateName string `json:"templateName"`
	Role         string `json:"roleArn"` // kept and not used
}

// ParseRegistration reads a registrationConfig and checks it, with the template
// if it has one of its own. null is one without.
func ParseRegistration(config []byte) (Registration, error) {
	var in Registration
	if len(bytes.TrimSpace(config)) == 0 {
		return in, nil
	}
	if err := json.Unmarshal(config, &in); err != nil {
		return in, fmt.Errorf("registrationConfig: %w", strictjson.Explain(config, err))
	}
	if in.TemplateBody == "" {
		return in, nil
	}
	if in.TemplateName != "" {
		return in, errors.New("registrationConfig: templateBody and templateName, want one")
	}
	if _, err := ParseNew([]byte(in.TemplateBody)); err != nil {
		return in, fmt.Errorf("registrationConfig.templateBody: %w", err)
	}
	return in, nil
}

// FirstConnection registers the certificate of a first connection and makes what
// the template of its CA has, in one update or not at all. The certificate must
// be one that registry.AutoRegister takes; its errors are as there. A CA without
// a template is ErrNoTemplate.
func (s *Service) FirstConnection(ctx context.Context, cert *x509.Certificate) (made *Applied, err error) {
	began := time.Now()
	defer func() {
		if !errors.Is(err, ErrNoTemplate) {
			s.count("first-connection", began, err)
		}
	}()
	var plan *Plan
	err = inRegistry.View(s.registry, func(tx records) error { // where AutoRegister only looks
		c, err := tx.AutoRegister(cert)
		if err != nil {
			return err
		}
		body, err := templateOf(tx, c.CA)
		if err != nil {
			return err
		}
		t, err := parseDeviceTemplate(body)
		if err != nil {
			return err
		}
		plan, err = t.plan(map[string]string{certificateParameter + "Id": c.ID}, subject(cert))
		if err == nil && plan.Certificate.ID != c.ID {
			err = errOtherCertificate
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = inRegistry.Update(ctx, s.registry, func(tx records) (err error) {
		if _, err = tx.AutoRegister(cert); err != nil {
			return err
		}
		if made, err = s.apply(tx, plan); err == nil {
			audit.Of(ctx).Name(made.target())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("a device was provisioned by its first connection", "thing", made.Thing, "certificate", made.Certificate)
	return made, nil
}

// ErrNoTemplate says that a CA does not provision devices by itself.
var ErrNoTemplate = errors.New("provisioning: the CA has no template")

// templateOf is the body of a CA's template.
func templateOf(tx records, id string) ([]byte, error) {
	ca, err := tx.CA(id)
	if err != nil {
		return nil, err
	}
	in, err := ParseRegistration(ca.Registration)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: CA %s: %w", ErrTemplate, id, err)
	case in.TemplateBody != "":
		return []byte(in.TemplateBody), nil
	case in.TemplateName == "":
		return nil, ErrNoTemplate
	}
	tp, err := tx.Template(in.TemplateName)
	if err == nil && (!tp.Enabled || tp.Type != registry.JITP) {
		err = fmt.Errorf("%w: template %s is not enabled for JITP", errDenied, in.TemplateName)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: CA %s: %w", ErrTemplate, id, err)
	}
	return tx.TemplateBody(in.TemplateName, 0)
}

// subject are the parameters that a certificate's subject gives, of each name
// the first value.
func subject(cert *x509.Certificate) map[string]string {
	names := authz.SubjectNames(cert)
	out := map[string]string{}
	for _, name := range given {
		from := name
		if name == "StateName" {
			from = "State" // as policies call it
		}
		if v := names[from]; len(v) > 0 {
			out[certificateParameter+name] = v[0]
		}
	}
	return out
}
