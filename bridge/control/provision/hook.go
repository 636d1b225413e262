package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/tidemill/tidemill/bridge/control/webhook"
)

// A Hook is where a pre-provisioning hook is asked.
type Hook struct {
	ARN      string // that templates name it with
	URL      string // gets POST with a JSON document; or the ARN of a function
	MaxCalls int    // under way at once; 0: webhook.DefaultCalls
}

// Hooks are the pre-provisioning hooks of a bridge: HTTP services that get, by
// POST, what AWS IoT gives to a Lambda function (HookRequest), and answer 200 with
// what the function returns (HookAnswer). Several goroutines may use them.
type Hooks struct {
	services  map[string]*webhook.Service // by ARN
	functions webhook.Functions
	client    *webhook.Client
	report    webhook.Report

	mu    sync.Mutex                  // guards what follows
	own   map[string]*webhook.Service // functions that no hook names, by ARN
	stats map[HookOutcome]uint64
}

// A HookOutcome is what became of a call: "answered", "failed", or "busy" if too
// many of the hook were under way.
type HookOutcome struct{ ARN, Outcome string }

// NewHooks returns the hooks given; report is called for those that fail or are not
// there, by their ARNs, and may be nil. Close lets their connections go.
func NewHooks(all []Hook, functions webhook.Functions, report webhook.Report) *Hooks {
	if report == nil {
		report = func(string, error) {}
	}
	h := &Hooks{services: map[string]*webhook.Service{}, client: webhook.NewClient(functions, report), report: report,
		functions: functions, own: map[string]*webhook.Service{}, stats: map[HookOutcome]uint64{}}
	for _, o := range all {
		h.services[o.ARN] = webhook.NewService(o.ARN, o.URL, o.MaxCalls)
	}
	return h
}

// Close lets idle connections go.
func (h *Hooks) Close() { h.client.Close() }

// HookStats is what became of the calls of hooks so far.
func (s *Service) HookStats() map[HookOutcome]uint64 { return s.o.Hooks.Stats() }

// Stats is what became of the calls so far.
func (h *Hooks) Stats() map[HookOutcome]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.stats)
}

func (h *Hooks) count(arn string, err error) {
	o := HookOutcome{arn, "answered"}
	switch {
	case errors.Is(err, webhook.ErrBusy):
		o.Outcome = "busy"
	case err != nil:
		o.Outcome = "failed"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats[o]++
}

// A HookRequest is what a pre-provisioning hook is asked (developer guide,
// "Pre-provisioning hooks").
type HookRequest struct {
	ClaimCertificateID string            `json:"claimCertificateId"`
	CertificateID      string            `json:"certificateId"`
	CertificatePEM     string            `json:"certificatePem"`
	TemplateARN        string            `json:"templateArn"`
	ClientID           string            `json:"clientId"`
	Parameters         map[string]string `json:"parameters"`
}

// A HookAnswer is what the hook says.
type HookAnswer struct {
	Allow              bool              `json:"allowProvisioning"`
	ParameterOverrides map[string]string `json:"parameterOverrides"`
}

// service is that of an ARN: of the configuration, or a function of the bridge's own;
// nil for none.
func (h *Hooks) service(arn string) *webhook.Service {
	if s := h.services[arn]; s != nil {
		return s
	}
	has := h.functions.HasFunction(arn)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !has {
		delete(h.own, arn)
	} else if h.own[arn] == nil {
		h.own[arn] = webhook.NewService(arn, arn, 0)
	}
	return h.own[arn]
}

// Ask asks the hook of an ARN, for 5 s at most. Without an answer that can be
// read it is an error: nobody is provisioned then.
func (h *Hooks) Ask(ctx context.Context, arn string, q *HookRequest) (*HookAnswer, error) {
	service := h.service(arn)
	if service == nil {
		err := errors.New("it is not in the bridge's configuration: give it a table [[hooks]], or make the function")
		h.report(arn, err)
		return nil, err
	}
	out := &HookAnswer{}
	err := h.client.Ask(ctx, service, q, func(answer []byte) error { return json.Unmarshal(answer, out) })
	h.count(arn, err)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ask returns the parameters of a claim, as its template's hook will have them.
// Only errDenied is the hook's own word.
func (s *Service) ask(ctx context.Context, q *Claim, target, templateARN, id, text string) (map[string]string, error) {
	a, err := s.o.Hooks.Ask(ctx, target,
		&HookRequest{ClaimCertificateID: q.Principal, CertificateID: id, CertificatePEM: text,
			TemplateARN: templateARN, ClientID: q.ClientID, Parameters: q.Parameters})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errHook, target, err)
	}
	if !a.Allow {
		return nil, fmt.Errorf("%w by the pre-provisioning hook", errDenied)
	}
	return a.ParameterOverrides, nil
}
