package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// ErrTemplate is in the chain of every error about a template or about the
// parameters that it was given.
var ErrTemplate = errors.New("provisioning template")

// A Template says which thing, certificate and policies a device is made of,
// and what it is told. It doesn't change.
type Template struct {
	parameters map[string]parameter
	mappings   map[string]map[string]map[string]any
	resources  []resource // in order of their names
	device     any        // nil: none

	certificate bool // there is one
}

type parameter struct {
	Type        string
	Default     *string
	Description any // without meaning
}

type resource struct {
	name       string
	Type       string
	Properties map[string]any
	Override   map[string]Override `json:"OverrideSettings"`
}

// An Override says what becomes of a property that is there already.
type Override string

// The overrides. MERGE is for attributes and groups.
const (
	DoNothing Override = "DO_NOTHING" // also where the template says nothing
	Replace   Override = "REPLACE"
	Fail      Override = "FAIL"
	Merge     Override = "MERGE"
)

// Types of resources.
const (
	thingResource       = "AWS::IoT::Thing"
	certificateResource = "AWS::IoT::Certificate"
	policyResource      = "AWS::IoT::Policy"
)

// properties of each type of resource, with those that may be overridden.
var properties = map[string]map[string][]Override{
	thingResource: {"ThingName": nil, "AttributePayload": {DoNothing, Replace, Fail, Merge},
		"ThingTypeName": {DoNothing, Replace, Fail},
		"ThingGroups":   {DoNothing, Replace, Fail, Merge}, "BillingGroup": {DoNothing, Replace, Fail}},
	certificateResource: {"CertificateId": nil, "CertificateSigningRequest": nil, "CertificatePem": nil,
		"CACertificatePem": nil,
		"Status":           {DoNothing, Replace, Fail}, "ThingPrincipalType": nil},
	policyResource: {"PolicyName": nil, "PolicyDocument": nil},
}

// parseDeviceTemplate reads a template's body, at most registry.MaxTemplateBody bytes, and
// checks all that does not depend on parameters. Errors name the place. It is for
// devices, so there is a certificate.
func parseDeviceTemplate(body []byte) (*Template, error) {
	t, err := parse(body)
	if err == nil && !t.certificate {
		err = fmt.Errorf("%w: Resources: no certificate, want one", ErrTemplate)
	}
	return t, err
}

// ParseNew is Parse for a template that is about to be stored: its policy documents
// name no action that does not exist (authz.ParseNew).
func ParseNew(body []byte) (*Template, error) {
	t, err := parseDeviceTemplate(body)
	if err == nil {
		err = t.checkActions()
	}
	return t, err
}

// checkActions returns an error if a policy document in which nothing is to be
// computed names an action that does not exist.
func (t *Template) checkActions() error {
	for _, r := range t.resources {
		if err := r.plainDocument(authz.ParseNew); err != nil {
			return fmt.Errorf("%w: Resources.%s: PolicyDocument: %w", ErrTemplate, r.name, err)
		}
	}
	return nil
}

// parse is Parse for templates that may have a thing alone.
func parse(body []byte) (*Template, error) {
	if len(body) > registry.MaxTemplateBody {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrTemplate, len(body), registry.MaxTemplateBody)
	}
	var in struct {
		Parameters          map[string]parameter
		Mappings            map[string]map[string]map[string]any
		Resources           map[string]resource
		DeviceConfiguration any
		// As in CloudFormation, and without meaning.
		Version     any `json:"AWSTemplateFormatVersion"`
		Description any
	}
	// Strictly: an OverrideSettings that is not spelled so would be none.
	if err := strictjson.Decode(body, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	t := &Template{parameters: in.Parameters, mappings: in.Mappings, device: in.DeviceConfiguration}
	for _, name := range slices.Sorted(maps.Keys(in.Parameters)) {
		if ty := in.Parameters[name].Type; ty != "String" {
			return nil, fmt.Errorf("%w: Parameters.%s: type %q, want String", ErrTemplate, name, ty)
		}
	}
	count := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(in.Resources)) {
		r := in.Resources[name]
		r.name = name
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("%w: Resources.%s: %w", ErrTemplate, name, err)
		}
		count[r.Type]++
		t.resources = append(t.resources, r)
	}
	if count[thingResource] > 1 || count[certificateResource] > 1 {
		return nil, fmt.Errorf(
			"%w: Resources: %d things and %d certificates, want at most one thing and one certificate",
			ErrTemplate, count[thingResource], count[certificateResource])
	}
	t.certificate = count[certificateResource] == 1
	if !t.certificate && (count[thingResource] == 0 || count[policyResource] > 0) {
		return nil, fmt.Errorf("%w: Resources: no certificate, want one, or one thing without policies", ErrTemplate)
	}
	if err := t.functions("", []any{in.DeviceConfiguration, resourceValues(t.resources)}); err != nil {
		return nil, err
	}
	for _, r := range t.resources {
		if err := r.plainDocument(authz.Parse); err != nil {
			return nil, fmt.Errorf("%w: Resources.%s: PolicyDocument: %w", ErrTemplate, r.name, err)
		}
	}
	return t, nil
}

// plainDocument checks a policy document in which nothing is to be computed.
func (r *resource) plainDocument(parse func([]byte) (*authz.Document, error)) error {
	var text []byte
	switch v := r.Properties["PolicyDocument"].(type) {
	case string:
		text = []byte(v)
	case map[string]any:
		var err error
		if text, err = json.Marshal(v); err != nil || computed(v) {
			return err
		}
	default:
		return nil
	}
	_, err := parse(text)
	return err
}

func resourceValues(all []resource) any {
	out := map[string]any{}
	for _, r := range all {
		out[r.name] = r.Properties
	}
	return out
}

func (r *resource) check() error {
	overrides := properties[r.Type]
	if overrides == nil {
		return fmt.Errorf("type %q, want one of %s, %s, %s", r.Type, thingResource, certificateResource, policyResource)
	}
	for _, p := range slices.Sorted(maps.Keys(r.Properties)) {
		if _, ok := overrides[p]; !ok {
			return fmt.Errorf("%s has no property %q", r.Type, p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(r.Override)) {
		if o := r.Override[p]; !slices.Contains(overrides[p], o) {
			return fmt.Errorf("OverrideSettings.%s: %q, want one of %v", p, o, overrides[p])
		}
	}
	need := map[string][]string{
		thingResource:       {"ThingName"},
		certificateResource: {"CertificateId", "CertificateSigningRequest", "CertificatePem"},
		policyResource:      {"PolicyName", "PolicyDocument"},
	}[r.Type]
	if !slices.ContainsFunc(need, func(p string) bool { return r.Properties[p] != nil }) {
		return fmt.Errorf("a %s needs %s", r.Type, strings.Join(need, " or "))
	}
	return nil
}

// A Plan is a template with its parameters filled in.
type Plan struct {
	Thing       *ThingPlan      // nil: none
	Certificate CertificatePlan // of RegisterThing it may be zero: none
	Policies    []PolicyPlan
	// DeviceConfiguration is what the device is told; nil: nothing.
	DeviceConfiguration map[string]any
}

// A ThingPlan is a thing to be made, or changed as the overrides say.
type ThingPlan struct {
	resource     string
	Name         string
	Type         string
	Attributes   map[string]string
	Groups       []string
	BillingGroup string
	Override     map[string]Override
}

// A CertificatePlan is the device's certificate: one of ID, Request and PEM.
type CertificatePlan struct {
	resource string
	ID       string
	Request  string // PEM of a certificate signing request
	PEM      string
	CAPEM    string
	Status   registry.Status
	Override Override // of the status
}

// A PolicyPlan is a policy to be attached: one that is there, or with a
// document one to be made.
type PolicyPlan struct {
	resource string
	Name     string
	Document string
}

// certificateParameter begins the names of the parameters that the bridge gives
// and nobody else (developer guide, "Just-in-time provisioning").
const certificateParameter = "AWS::IoT::Certificate::"

// given are the parameters that the bridge gives.
var given = []string{"Country", "Organization", "OrganizationalUnit", "DistinguishedNameQualifier", "StateName",
	"CommonName", "SerialNumber", "Id"}

// maxParameter is how long a value may be (RegisterThing: 4096 characters).
const maxParameter = 4096

// mayReferTo says whether a template may refer to a parameter.
func (t *Template) mayReferTo(name string) bool {
	_, ok := t.parameters[name]
	last, own := strings.CutPrefix(name, certificateParameter)
	return ok || own && slices.Contains(given, last)
}

// undeclared returns an error if there are parameters that t does not know.
func (t *Template) undeclared(parameters map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if !t.mayReferTo(name) {
			return fmt.Errorf("%w: parameter %.100q is not declared", ErrTemplate, name)
		}
	}
	return nil
}

// plan fills in the parameters: what the operator and the bridge give, own,
// before what the device says, claimed. One that is not there and has no default
// is an error; those that the template does not know are left alone, since they
// may be for the hook. What a device says must not widen a policy: in a
// document it has no wildcards, variables or quotes.
func (t *Template) plan(own, claimed map[string]string) (*Plan, error) {
	e := &evaluation{t: t, values: map[string]string{}, foreign: map[string]bool{}}
	for name, v := range claimed {
		e.values[name], e.foreign[name] = v, true
	}
	for name, v := range own {
		e.values[name] = v
		delete(e.foreign, name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		if n := len(e.values[name]); n > maxParameter {
			return nil, fmt.Errorf("%w: parameter %.100q: %d bytes, want at most %d", ErrTemplate, name, n,
				maxParameter)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		if _, ok := e.values[name]; ok {
			continue
		}
		p := t.parameters[name]
		if p.Default == nil {
			return nil, fmt.Errorf("%w: parameter %q is missing", ErrTemplate, name)
		}
		e.values[name] = *p.Default
	}
	p := &Plan{}
	for _, r := range t.resources {
		if err := e.add(p, &r); err != nil {
			return nil, fmt.Errorf("%w: Resources.%s: %w", ErrTemplate, r.name, err)
		}
	}
	if t.device == nil {
		return p, nil
	}
	v, err := e.value(t.device)
	if err != nil {
		return nil, fmt.Errorf("%w: DeviceConfiguration: %w", ErrTemplate, err)
	}
	config, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: DeviceConfiguration: is a %T, want an object", ErrTemplate, v)
	}
	p.DeviceConfiguration = config
	return p, nil
}

// add fills in a resource's properties.
func (e *evaluation) add(p *Plan, r *resource) error {
	got := map[string]any{}
	for name, raw := range r.Properties {
		e.document = name == "PolicyDocument"
		v, err := e.value(raw)
		e.document = false
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		got[name] = v
	}
	var bad error
	text := func(name string) string {
		switch v := got[name].(type) {
		case nil:
			return ""
		case string:
			return v
		case map[string]any: // a policy document need not be in quotes
			if name == "PolicyDocument" {
				b, err := json.Marshal(v)
				bad = errors.Join(bad, err)
				return string(b)
			}
		}
		bad = errors.Join(bad, fmt.Errorf("%s: is a %T, want text", name, got[name]))
		return ""
	}
	switch r.Type {
	case thingResource:
		p.Thing = &ThingPlan{resource: r.name, Name: text("ThingName"), Type: text("ThingTypeName"),
			BillingGroup: text("BillingGroup"),
			Attributes:   map[string]string{}, Override: r.Override}
		if err := p.Thing.describe(got); err != nil {
			return err
		}
	case certificateResource:
		c := CertificatePlan{resource: r.name, ID: text("CertificateId"), Request: text("CertificateSigningRequest"),
			PEM:   text("CertificatePem"),
			CAPEM: text("CACertificatePem"), Override: r.Override["Status"],
			Status: registry.Status(strings.ToUpper(text("Status")))}
		if c.Status == "" {
			c.Status = registry.Active
		}
		if c.Status != registry.Active && c.Status != registry.Inactive {
			return fmt.Errorf("property Status: %q, want ACTIVE or INACTIVE", c.Status)
		}
		given := slices.DeleteFunc([]string{c.ID, c.Request, c.PEM}, func(s string) bool { return s == "" })
		if len(given) != 1 && bad == nil {
			return errors.New("want one of CertificateId, CertificateSigningRequest and CertificatePem")
		}
		p.Certificate = c
	case policyResource:
		p.Policies = append(p.Policies, PolicyPlan{r.name, text("PolicyName"), text("PolicyDocument")})
	}
	return bad
}

// describe sets what a thing has beside names: attributes and groups.
func (th *ThingPlan) describe(got map[string]any) error {
	if raw := got["AttributePayload"]; raw != nil {
		attributes, ok := raw.(map[string]any)
		if !ok {
			return fmt.Errorf("AttributePayload: is a %T, want an object", raw)
		}
		for k, v := range attributes {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("AttributePayload.%s: is a %T, want text", k, v)
			}
			th.Attributes[k] = s
		}
	}
	if raw := got["ThingGroups"]; raw != nil {
		groups, ok := raw.([]any)
		if !ok {
			return fmt.Errorf("ThingGroups: is a %T, want an array", raw)
		}
		for i, v := range groups {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("ThingGroups[%d]: is a %T, want text", i, v)
			}
			th.Groups = append(th.Groups, s)
		}
	}
	return nil
}
