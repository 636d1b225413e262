package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// hookTime is how long a hook may take (developer guide: 5 s).
	hookTime = 5 * time.Second
	// maxHooks are asked at once; others wait within their time.
	maxHooks      = 64
	maxHookAnswer = 64 << 10 // bytes
)

// Hooks are the pre-provisioning hooks of a bridge: HTTP services that get, by
// POST, what AWS IoT gives to a Lambda function (HookRequest), and answer 200 with
// what the function returns (HookAnswer). Several goroutines may use them.
type Hooks struct {
	urls   map[string]string // by ARN
	client *http.Client
	slots  chan struct{}
}

// NewHooks returns the hooks of the URLs given, by the ARNs that templates name
// them with. Close lets their connections go.
func NewHooks(urls map[string]string) *Hooks {
	return &Hooks{urls: urls, slots: make(chan struct{}, maxHooks), client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: maxHooks, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		// A redirect would carry what a device says to where nobody said.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets idle connections go.
func (h *Hooks) Close() { h.client.CloseIdleConnections() }

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

// Ask asks the hook of an ARN, for 5 s at most. Without an answer that can be
// read it is an error: nobody is provisioned then.
func (h *Hooks) Ask(ctx context.Context, arn string, q *HookRequest) (*HookAnswer, error) {
	address, ok := h.urls[arn]
	if !ok {
		return nil, errors.New("it is not in the bridge's configuration")
	}
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, errors.New("too many calls are under way")
	}
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the URL may have a key in its query
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxHookAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %s", resp.Status)
	case len(answer) > maxHookAnswer:
		return nil, fmt.Errorf("its answer has more than %d bytes", maxHookAnswer)
	}
	out := &HookAnswer{}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	return out, nil
}

// ask returns the parameters of a claim, as its template's hook will have them.
// Only ErrDenied is the hook's own word.
func (s *Service) ask(ctx context.Context, q *Claim, target, templateARN, id, text string) (map[string]string, error) {
	a, err := s.o.Hooks.Ask(ctx, target, &HookRequest{ClaimCertificateID: q.Principal, CertificateID: id, CertificatePEM: text,
		TemplateARN: templateARN, ClientID: q.ClientID, Parameters: q.Parameters})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrHook, target, err)
	}
	if !a.Allow {
		return nil, fmt.Errorf("%w by the pre-provisioning hook", ErrDenied)
	}
	return a.ParameterOverrides, nil
}
