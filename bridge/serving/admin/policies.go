package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// PolicyTarget names what a policy is attached to.
type PolicyTarget struct {
	Certificate string `json:"certificate"`
}

// policies are the registry's, and what they decide.
type policies struct {
	registry        *registry.Registry
	account, region string
	log             *slog.Logger
}

func (h *policies) list(w http.ResponseWriter, _ *http.Request) error {
	names := []string{}
	err := inRegistry.View(h.registry, func(tx records) error {
		return pages(func(after string) (string, error) {
			page, next, err := tx.Policies(after, registry.MaxPage)
			for _, p := range page {
				names = append(names, p.Name)
			}
			return next, err
		})
	})
	if err != nil {
		return err
	}
	return writeJSON(w, names)
}

// get answers with the document in effect.
func (h *policies) get(w http.ResponseWriter, r *http.Request) error {
	var out bytes.Buffer
	err := inRegistry.View(h.registry, func(tx records) error {
		doc, err := tx.PolicyDocument(r.PathValue("name"), 0)
		if err != nil {
			return err
		}
		return json.Indent(&out, bytes.TrimSpace(doc), "", "  ")
	})
	if err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
}

func (h *policies) put(_ http.ResponseWriter, r *http.Request) error {
	doc, err := io.ReadAll(r.Body)
	if err != nil {
		return badRequest{err}
	}
	if _, err := authz.ParseNew(doc); err != nil {
		return fmt.Errorf("policy %s: %w", r.PathValue("name"), err)
	}
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.PutPolicy(r.PathValue("name"), doc)
	})
}

func (h *policies) attach(_ http.ResponseWriter, r *http.Request) error {
	var in PolicyTarget
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.AttachPolicy(r.PathValue("name"), in.Certificate)
	})
}

func (h *policies) detach(_ http.ResponseWriter, r *http.Request) error {
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.DetachPolicy(r.PathValue("name"), r.PathValue("certificate"))
	})
}

// PolicyVersionInfo describes one version of a policy.
type PolicyVersionInfo struct {
	Version int       `json:"version"`
	Default bool      `json:"default"`
	Created time.Time `json:"created"`
}

func (h *policies) versions(w http.ResponseWriter, r *http.Request) error {
	all := []PolicyVersionInfo{}
	err := inRegistry.View(h.registry, func(tx records) error {
		p, err := tx.Policy(r.PathValue("name"))
		for _, v := range p.Versions {
			all = append(all, PolicyVersionInfo{v.Number, v.Number == p.Default, v.Created})
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// PolicyVersion names a version.
type PolicyVersion struct {
	Version int `json:"version"`
}

func (h *policies) setDefault(_ http.ResponseWriter, r *http.Request) error {
	var in PolicyVersion
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if in.Version < 1 {
		return badRequest{errors.New("want a version from 1")}
	}
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.SetDefaultVersion(r.PathValue("name"), in.Version)
	})
}

func (h *policies) remove(_ http.ResponseWriter, r *http.Request) error {
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.DeletePolicy(r.PathValue("name"))
	})
}

func (h *policies) removeVersion(_ http.ResponseWriter, r *http.Request) error {
	n, err := strconv.Atoi(r.PathValue("version"))
	if err != nil || n < 1 {
		return badRequest{errors.New("want a version from 1")}
	}
	return inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		return tx.DeletePolicyVersion(r.PathValue("name"), n)
	})
}

// An EffectivePolicy is a policy in effect with its document.
type EffectivePolicy struct {
	registry.EffectivePolicy
	Document json.RawMessage `json:"document"`
}

func (h *policies) effective(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	all := []EffectivePolicy{}
	err := inRegistry.View(h.registry, func(tx records) error {
		list, err := tx.EffectivePolicies(q.Get("certificate"), q.Get("thing"))
		for _, p := range list {
			all = append(all, EffectivePolicy{p, bytes.TrimSpace(p.Document)})
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// PolicyTest asks what a certificate might do.
type PolicyTest struct {
	Certificate string              `json:"certificate"`
	ClientID    string              `json:"client_id"`
	SourceIP    string              `json:"source_ip,omitempty"`
	Add         []string            `json:"policyNamesToAdd,omitempty"`
	Skip        []string            `json:"policyNamesToSkip,omitempty"`
	Infos       []registry.AuthInfo `json:"authInfos"`
}

// PolicyTestResult is one answer.
type PolicyTestResult struct {
	Info        registry.AuthInfo `json:"authInfo"`
	Decision    string            `json:"authDecision"` // ALLOWED, EXPLICIT_DENY or IMPLICIT_DENY
	Allowed     []string          `json:"allowed"`
	Denied      []string          `json:"explicitDeny"`
	Implicit    []string          `json:"implicitDeny"`
	Missing     []string          `json:"missingContextValues"`
	Explanation string            `json:"explanation"` // lines of text
	Status      string            `json:"status"`      // of the certificate, which the decision is without
}

func (h *policies) test(w http.ResponseWriter, r *http.Request) error {
	var in PolicyTest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	all := []PolicyTestResult{}
	err := inRegistry.View(h.registry, func(tx records) error {
		c, err := tx.Certificate(in.Certificate)
		if err != nil {
			return err
		}
		known := authz.Context{Account: h.account, Region: h.region, SourceIP: in.SourceIP}
		results, err := tx.TestAuthorization(registry.AuthTest{Certificate: c.ID, ClientID: in.ClientID,
			Add: in.Add, Skip: in.Skip, Infos: in.Infos, Known: known})
		for _, x := range results {
			var text string
			for _, e := range x.Explanations {
				text += e.String()
			}
			all = append(all, PolicyTestResult{Info: x.Info, Decision: x.Decision.String(), Allowed: x.Allowed,
				Denied:   x.Denied,
				Implicit: x.Implicit, Missing: x.Missing, Explanation: text, Status: string(c.Status)})
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// A WhoCanLine is one of the answers to who can do something. The last has End
// alone, or the error that ended it.
type WhoCanLine struct {
	*registry.Access
	Error string `json:"error,omitempty"`
	End   bool   `json:"end,omitempty"`
}

// whoCanActions are the words for actions.
var whoCanActions = map[string]string{
	"publish": authz.Publish, "subscribe": authz.Subscribe, "receive": authz.Receive, "connect": authz.Connect}

func (h *policies) whoCan(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	action, resource := whoCanActions[q.Get("action")], q.Get("resource")
	if action == "" || resource == "" {
		return badRequest{errors.New(
			"want an action (publish, subscribe, receive or connect) and a topic, filter or client id")}
	}
	known := authz.Context{Account: h.account, Region: h.region, SourceIP: q.Get("source_ip")}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	var gone error
	err := h.registry.WhoCan(action, resource, known, func(a registry.Access) bool {
		gone = enc.Encode(WhoCanLine{Access: &a})
		return gone == nil && r.Context().Err() == nil
	})
	last := WhoCanLine{End: true}
	if err != nil {
		h.log.Error("who can", "action", action, "resource", resource, "err", err)
		last.Error = err.Error()
	}
	if gone == nil {
		_ = enc.Encode(last) // the client is gone if this fails
	}
	return nil
}
