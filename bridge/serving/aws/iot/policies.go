package iot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

func (c *controlPlane) policies() []operation {
	return []operation{
		{"CreatePolicy", "POST", "/policies/:policyName", c.createPolicy},
		{"GetPolicy", "GET", "/policies/:policyName", c.getPolicy},
		{"DeletePolicy", "DELETE", "/policies/:policyName", c.deletePolicy},
		{"ListPolicies", "GET", "/policies", c.listPolicies},
		{"CreatePolicyVersion", "POST", "/policies/:policyName/version", c.createPolicyVersion},
		{"ListPolicyVersions", "GET", "/policies/:policyName/version", c.listPolicyVersions},
		{"GetPolicyVersion", "GET", "/policies/:policyName/version/:policyVersionId", c.getPolicyVersion},
		{"DeletePolicyVersion", "DELETE", "/policies/:policyName/version/:policyVersionId",
			c.onVersion(policyRecords.DeletePolicyVersion)},
		{"SetDefaultPolicyVersion", "PATCH", "/policies/:policyName/version/:policyVersionId",
			c.onVersion(policyRecords.SetDefaultVersion)},
		{"AttachPolicy", "PUT", "/target-policies/:policyName",
			c.linkPolicy(policyRecords.AttachPolicy, policyRecords.AttachGroupPolicy)},
		{"DetachPolicy", "POST", "/target-policies/:policyName",
			c.linkPolicy(policyRecords.DetachPolicy, policyRecords.DetachGroupPolicy)},
		{"AttachPrincipalPolicy", "PUT", "/principal-policies/:policyName",
			c.linkPrincipal(policyRecords.AttachPolicy)},
		{"DetachPrincipalPolicy", "DELETE", "/principal-policies/:policyName",
			c.linkPrincipal(policyRecords.DetachPolicy)},
		{"ListAttachedPolicies", "POST", "/attached-policies/:target", c.listAttached},
		{"ListTargetsForPolicy", "POST", "/policy-targets/:policyName", c.listTargets},
		{"TestAuthorization", "POST", "/test-authorization", c.testAuthorization},
		{"GetEffectivePolicies", "POST", "/effective-policies", c.effectivePolicies},
	}
}

type policyAnswer struct {
	Name     string `json:"policyName,omitempty"`
	ARN      string `json:"policyArn"`
	Document string `json:"policyDocument"`
	Version  string `json:"policyVersionId,omitempty"`
	Default  *bool  `json:"isDefaultVersion,omitempty"`

	DefaultVersion string  `json:"defaultVersionId,omitempty"`
	Created        float64 `json:"creationDate,omitempty"`
	Changed        float64 `json:"lastModifiedDate,omitempty"`
}

// A policyDocument is the body of CreatePolicy and CreatePolicyVersion.
type policyDocument struct {
	Document string `json:"policyDocument"`
}

func (c *controlPlane) createPolicy(r *wire.Request) (any, error) {
	var in policyDocument
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if _, err := authz.ParseNew([]byte(in.Document)); err != nil {
		return nil, err
	}
	name := r.Path("policyName")
	err := ofPolicies.Update(r.Context(), c.registry, func(tx policyRecords) error {
		return tx.CreatePolicy(name, []byte(in.Document))
	})
	if err != nil {
		return nil, err
	}
	return policyAnswer{Name: name, ARN: c.arn(r, "policy", name), Document: in.Document, Version: "1"}, nil
}

func (c *controlPlane) getPolicy(r *wire.Request) (any, error) {
	var out policyAnswer
	err := ofPolicies.View(c.registry, func(tx policyRecords) error {
		p, err := tx.Policy(r.Path("policyName"))
		if err != nil {
			return err
		}
		doc, err := tx.PolicyDocument(p.Name, p.Default)
		out = policyAnswer{Name: p.Name, ARN: c.arn(r, "policy", p.Name), Document: string(doc),
			DefaultVersion: strconv.Itoa(p.Default), Created: seconds(p.Created)}
		for _, v := range p.Versions {
			out.Changed = max(out.Changed, seconds(v.Created))
		}
		return err
	})
	return out, err
}

func (c *controlPlane) deletePolicy(r *wire.Request) (any, error) {
	err := ofPolicies.Update(r.Context(), c.registry, func(tx policyRecords) error {
		return tx.DeletePolicy(r.Path("policyName"))
	})
	return nil, instead(err, registry.ErrConflict, "DeleteConflictException", 409)
}

// A policyName is how lists name one.
type policyName struct {
	Name string `json:"policyName"`
	ARN  string `json:"policyArn"`
}

func (c *controlPlane) policyName(r *wire.Request, name string) policyName {
	return policyName{name, c.arn(r, "policy", name)}
}

type policyList struct {
	Policies []policyName `json:"policies"`
	Next     string       `json:"nextMarker,omitempty"`
}

func (c *controlPlane) listPolicies(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := policyList{Policies: []policyName{}}
	err = ofPolicies.View(c.registry, func(tx policyRecords) error {
		all, next, err := tx.Policies(after, n)
		for _, p := range all {
			out.Policies = append(out.Policies, c.policyName(r, p.Name))
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

func (c *controlPlane) createPolicyVersion(r *wire.Request) (any, error) {
	var in policyDocument
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	isDefault, err := flag(r, "setAsDefault")
	if err == nil {
		_, err = authz.ParseNew([]byte(in.Document))
	}
	if err != nil {
		return nil, err
	}
	name, n := r.Path("policyName"), 0
	err = ofPolicies.Update(r.Context(), c.registry, func(tx policyRecords) (err error) {
		n, err = tx.CreatePolicyVersion(name, []byte(in.Document), isDefault)
		return err
	})
	if err != nil {
		return nil, instead(err, registry.ErrLimit, "VersionsLimitExceededException", 409)
	}
	return policyAnswer{ARN: c.arn(r, "policy", name), Document: in.Document, Version: strconv.Itoa(n),
		Default: &isDefault}, nil
}

func (c *controlPlane) listPolicyVersions(r *wire.Request) (any, error) {
	type entry struct {
		Version string  `json:"versionId"`
		Default bool    `json:"isDefaultVersion"`
		Created float64 `json:"createDate"`
	}
	out := map[string][]entry{"policyVersions": {}}
	err := ofPolicies.View(c.registry, func(tx policyRecords) error {
		p, err := tx.Policy(r.Path("policyName"))
		for _, v := range p.Versions {
			out["policyVersions"] = append(out["policyVersions"],
				entry{strconv.Itoa(v.Number), v.Number == p.Default, seconds(v.Created)})
		}
		return err
	})
	return out, err
}

// versionID is the number of a policy's version in the path.
func versionID(r *wire.Request) (int, error) {
	n, err := strconv.Atoi(r.Path("policyVersionId"))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: policyVersionId: %.20q, want a number", registry.ErrInvalid,
			r.Path("policyVersionId"))
	}
	return n, nil
}

func (c *controlPlane) getPolicyVersion(r *wire.Request) (any, error) {
	n, err := versionID(r)
	if err != nil {
		return nil, err
	}
	var out policyAnswer
	err = ofPolicies.View(c.registry, func(tx policyRecords) error {
		p, err := tx.Policy(r.Path("policyName"))
		if err != nil {
			return err
		}
		doc, err := tx.PolicyDocument(p.Name, n)
		isDefault := n == p.Default
		out = policyAnswer{Name: p.Name, ARN: c.arn(r, "policy", p.Name), Document: string(doc),
			Version: strconv.Itoa(n), Default: &isDefault, Created: seconds(p.Created)}
		return err
	})
	return out, err
}

// onVersion does f to a version of a policy.
func (c *controlPlane) onVersion(f func(tx policyRecords, name string, number int) error) run {
	return func(r *wire.Request) (any, error) {
		n, err := versionID(r)
		if err != nil {
			return nil, err
		}
		err = ofPolicies.Update(r.Context(), c.registry, func(tx policyRecords) error {
			return f(tx, r.Path("policyName"), n)
		})
		return nil, instead(err, registry.ErrConflict, "DeleteConflictException", 409)
	}
}

// linkPolicy attaches a policy to a certificate or a thing group, or detaches
// it.
func (c *controlPlane) linkPolicy(certificate, group func(tx policyRecords, policy, target string) error) run {
	return func(r *wire.Request) (any, error) {
		var in struct {
			Target string `json:"target"`
		}
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		kind, name, err := nameOf(in.Target, "cert", "thinggroup")
		if err != nil {
			return nil, err
		}
		err = ofPolicies.Update(r.Context(), c.registry, func(tx policyRecords) error {
			if kind == "thinggroup" {
				return group(tx, r.Path("policyName"), name)
			}
			return certificate(tx, r.Path("policyName"), name)
		})
		return nil, instead(err, registry.ErrLimit, "LimitExceededException", 410)
	}
}

// linkPrincipal is linkPolicy of the older operations.
func (c *controlPlane) linkPrincipal(f func(tx policyRecords, policy, certificate string) error) run {
	return func(r *wire.Request) (any, error) {
		id, err := certificateOf(r.Header.Get("x-amzn-iot-principal"))
		if err != nil {
			return nil, err
		}
		err = ofPolicies.Update(r.Context(), c.registry, func(tx policyRecords) error {
			return f(tx, r.Path("policyName"), id)
		})
		return nil, instead(err, registry.ErrLimit, "LimitExceededException", 410)
	}
}

func (c *controlPlane) listAttached(r *wire.Request) (any, error) {
	kind, name, err := nameOf(r.Path("target"), "cert", "thinggroup")
	if err != nil {
		return nil, err
	}
	recursive, err := flag(r, "recursive")
	if err != nil {
		return nil, err
	}
	out := policyList{Policies: []policyName{}}
	err = ofPolicies.View(c.registry, func(tx policyRecords) error {
		if kind == "cert" {
			if _, err := tx.Certificate(name); err != nil {
				return err
			}
			for _, p := range tx.CertificatePolicies(name) {
				out.Policies = append(out.Policies, c.policyName(r, p))
			}
			return nil
		}
		for up := name; up != ""; {
			g, err := tx.Group(up)
			if err != nil {
				return err
			}
			for _, p := range tx.GroupPolicies(up) {
				out.Policies = append(out.Policies, c.policyName(r, p))
			}
			if up = g.Parent; !recursive {
				break
			}
		}
		return nil
	})
	return out, err
}

func (c *controlPlane) listTargets(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		Targets []string `json:"targets"`
		Next    string   `json:"nextMarker,omitempty"`
	}{Targets: []string{}}
	err = ofPolicies.View(c.registry, func(tx policyRecords) error {
		if _, err := tx.Policy(r.Path("policyName")); err != nil {
			return err
		}
		all, next := tx.PolicyTargets(r.Path("policyName"), after, n)
		for _, target := range all {
			kind, name, _ := strings.Cut(target, "/")
			out.Targets = append(out.Targets, c.arn(r, kind, name))
		}
		out.Next = token(next)
		return nil
	})
	return out, err
}

func (c *controlPlane) testAuthorization(r *wire.Request) (any, error) {
	var in struct {
		Principal string              `json:"principal"`
		Infos     []registry.AuthInfo `json:"authInfos"`
		Add       []string            `json:"policyNamesToAdd"`
		Skip      []string            `json:"policyNamesToSkip"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	var id string
	if in.Principal != "" {
		var err error
		if id, err = certificateOf(in.Principal); err != nil {
			return nil, err
		}
	}
	type policies struct {
		Policies []policyName `json:"policies"`
	}
	type result struct {
		Info    registry.AuthInfo `json:"authInfo"`
		Allowed policies          `json:"allowed"`
		Denied  struct {
			Implicit policies `json:"implicitDeny"`
			Explicit policies `json:"explicitDeny"`
		} `json:"denied"`
		Decision string   `json:"authDecision"`
		Missing  []string `json:"missingContextValues"`
	}
	named := func(names []string) (p policies) {
		p.Policies = []policyName{}
		for _, n := range names {
			p.Policies = append(p.Policies, c.policyName(r, n))
		}
		return p
	}
	out := map[string][]result{"authResults": {}}
	err := ofPolicies.View(c.registry, func(tx policyRecords) error {
		all, err := tx.TestAuthorization(registry.AuthTest{Certificate: id, ClientID: r.Query.Get("clientId"),
			Add: in.Add, Skip: in.Skip, Infos: in.Infos,
			Known: authz.Context{Account: c.account, Region: r.Region}})
		for _, a := range all {
			x := result{Info: a.Info, Allowed: named(a.Allowed), Decision: a.Decision.String(),
				Missing: append([]string{}, a.Missing...)}
			x.Denied.Implicit, x.Denied.Explicit = named(a.Implicit), named(a.Denied)
			out["authResults"] = append(out["authResults"], x)
		}
		return err
	})
	return out, err
}

func (c *controlPlane) effectivePolicies(r *wire.Request) (any, error) {
	var in struct {
		Principal string `json:"principal"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	thing := r.Query.Get("thingName")
	if in.Principal == "" && thing == "" {
		return nil, errors.Join(registry.ErrInvalid, errors.New("neither principal nor thingName"))
	}
	var id string
	if in.Principal != "" {
		var err error
		if id, err = certificateOf(in.Principal); err != nil {
			return nil, err
		}
	}
	out := map[string][]policyAnswer{"effectivePolicies": {}}
	err := ofPolicies.View(c.registry, func(tx policyRecords) error {
		all, err := tx.EffectivePolicies(id, thing)
		for _, p := range all {
			out["effectivePolicies"] = append(out["effectivePolicies"],
				policyAnswer{Name: p.Name, ARN: c.arn(r, "policy", p.Name), Document: compact(p.Document)})
		}
		return err
	})
	return out, err
}
