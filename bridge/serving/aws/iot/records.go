package iot

import (
	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

var ofAuthorizers audit.Records[authorizerRecords] = func(tx *registry.Tx) authorizerRecords { return tx }

// authorizerRecords are those of custom authorizers.
type authorizerRecords interface {
	Authorizer(name string) (registry.Authorizer, error)
	Authorizers(after string, n int) (page []registry.Authorizer, next string, err error)
	CreateAuthorizer(a registry.Authorizer) error
	DefaultAuthorizer() string
	DeleteAuthorizer(name string) error
	SetDefaultAuthorizer(name string) error
	Tag(resource string, add map[string]string) error
	UpdateAuthorizer(name string, f func(*registry.Authorizer)) error
}

var ofCertificates audit.Records[certificateRecords] = func(tx *registry.Tx) certificateRecords { return tx }

// certificateRecords are those of certificates and authorities.
type certificateRecords interface {
	CA(id string) (registry.CA, error)
	CACertificates(ca, after string, n int) (page []string, next string)
	CAPEM(id string) ([]byte, error)
	CAs(after string, n int) (page []registry.CA, next string, err error)
	Certificate(id string) (registry.Certificate, error)
	CertificatePEM(id string) ([]byte, error)
	Certificates(after string, n int) (page []registry.Certificate, next string, err error)
	DeleteCA(id string) error
	DeleteCertificate(id string, force bool) error
	RegisterCA(in registry.NewCA) (registry.CA, error)
	RegisterCertificate(text []byte, status registry.Status) (registry.Certificate, error)
	RegisterSigned(text, ca []byte, status registry.Status) (registry.Certificate, error)
	RegistrationCode() (string, error)
	SetCertificateStatus(id string, status registry.Status) error
	UpdateCA(id string, f func(*registry.CA)) error
}

var ofGroups audit.Records[groupRecords] = func(tx *registry.Tx) groupRecords { return tx }

// groupRecords are those of thing groups.
type groupRecords interface {
	AddToGroup(thing, group string) error
	CreateGroup(g registry.Group) error
	DeleteGroup(name string, expected uint64) error
	Group(name string) (registry.Group, error)
	GroupThings(group, after string, n int) (page []string, next string)
	Groups(after string, n int) (page []registry.Group, next string, err error)
	GroupsBelow(name string) []string
	RemoveFromGroup(thing, group string) error
	Tag(resource string, add map[string]string) error
	Thing(name string) (registry.Thing, error)
	UpdateGroup(name string, expected uint64, f func(*registry.Group) error) (version uint64, err error)
}

var ofSearches audit.Records[searchRecords] = func(tx *registry.Tx) searchRecords { return tx }

// searchRecords are those of searches of the index.
type searchRecords interface {
	Group(name string) (registry.Group, error)
}

var ofIndexing audit.Records[indexingRecords] = func(tx *registry.Tx) indexingRecords { return tx }

// indexingRecords are those of the index's configuration.
type indexingRecords interface {
	Indexing() (registry.Indexing, error)
	SetIndexing(x registry.Indexing) error
}

var ofPolicies audit.Records[policyRecords] = func(tx *registry.Tx) policyRecords { return tx }

// policyRecords are those of policies.
type policyRecords interface {
	AttachGroupPolicy(policy, group string) error
	AttachPolicy(policy, certificate string) error
	Certificate(id string) (registry.Certificate, error)
	CertificatePolicies(certificate string) []string
	CreatePolicy(name string, doc []byte) error
	CreatePolicyVersion(name string, doc []byte, setDefault bool) (number int, err error)
	DeletePolicy(name string) error
	DeletePolicyVersion(name string, number int) error
	DetachGroupPolicy(policy, group string) error
	DetachPolicy(policy, certificate string) error
	EffectivePolicies(certificate, thing string) ([]registry.EffectivePolicy, error)
	Group(name string) (registry.Group, error)
	GroupPolicies(group string) []string
	Policies(after string, n int) (page []registry.Policy, next string, err error)
	Policy(name string) (registry.Policy, error)
	PolicyDocument(name string, number int) ([]byte, error)
	PolicyTargets(policy, after string, n int) (page []string, next string)
	SetDefaultVersion(name string, number int) error
	TestAuthorization(q registry.AuthTest) ([]registry.AuthResult, error)
}

var ofProvisioning audit.Records[templateRecords] = func(tx *registry.Tx) templateRecords { return tx }

// templateRecords are those of provisioning templates.
type templateRecords interface {
	CreateTemplate(tp registry.Template, body []byte) (registry.Template, error)
	CreateTemplateVersion(name string, body []byte, setDefault bool) (number int, err error)
	DeleteTemplate(name string) error
	DeleteTemplateVersion(name string, number int) error
	Tag(resource string, add map[string]string) error
	Template(name string) (registry.Template, error)
	TemplateBody(name string, version int) ([]byte, error)
	Templates(after string, n int) (page []registry.Template, next string, err error)
	UpdateTemplate(name string, f func(*registry.Template) error) error
}

var ofRoles audit.Records[roleRecords] = func(tx *registry.Tx) roleRecords { return tx }

// roleRecords are those of role aliases.
type roleRecords interface {
	CreateRoleAlias(a registry.RoleAlias) error
	DeleteRoleAlias(name string) error
	RoleAlias(name string) (registry.RoleAlias, error)
	RoleAliases(after string, n int) (page []registry.RoleAlias, next string, err error)
	Tag(resource string, add map[string]string) error
	UpdateRoleAlias(name string, f func(*registry.RoleAlias)) error
}

var ofTags audit.Records[tagRecords] = func(tx *registry.Tx) tagRecords { return tx }

// tagRecords are those of tags and event configurations.
type tagRecords interface {
	EventConfig() (registry.EventConfig, error)
	SetEventConfig(set map[registry.EventType]bool) error
	Tag(resource string, add map[string]string) error
	Tags(resource string) (map[string]string, error)
	Untag(resource string, keys []string) error
}

var ofThings audit.Records[thingRecords] = func(tx *registry.Tx) thingRecords { return tx }

// thingRecords are those of things.
type thingRecords interface {
	AttachThing(thing, certificate string) error
	Certificate(id string) (registry.Certificate, error)
	CertificateThings(certificate string) []string
	CreateThing(th registry.Thing) error
	DeleteThing(name string, expected uint64) error
	DetachThing(thing, certificate string) error
	Thing(name string) (registry.Thing, error)
	ThingCertificates(thing string) []string
	Things(after string, n int, match func(*registry.Thing) bool) (page []registry.Thing, next string, err error)
	ThingsOfType(name, after string, n int, match func(*registry.Thing) bool) (page []registry.Thing, next string,
		err error)
	UpdateThing(name string, expected uint64, f func(*registry.Thing) error) error
}

var ofTypes audit.Records[typeRecords] = func(tx *registry.Tx) typeRecords { return tx }

// typeRecords are those of thing types and billing groups.
type typeRecords interface {
	BillingGroup(name string) (registry.BillingGroup, error)
	BillingGroups(after string, n int) (page []registry.BillingGroup, next string, err error)
	BillingThings(name, after string, n int) (page []string, next string)
	CreateBillingGroup(name, description string) error
	CreateThingType(ty registry.ThingType) error
	DeleteBillingGroup(name string, expected uint64) error
	DeleteThingType(name string) error
	DeprecateThingType(name string, undo bool) error
	SetBillingGroup(thing, group string) error
	Tag(resource string, add map[string]string) error
	Thing(name string) (registry.Thing, error)
	ThingType(name string) (registry.ThingType, error)
	ThingTypes(after string, n int) (page []registry.ThingType, next string, err error)
	UpdateBillingGroup(name string, expected uint64, description string) (version uint64, err error)
	UpdateThingType(name, description string, searchable []string) error
}
