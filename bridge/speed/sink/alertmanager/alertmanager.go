// Package alertmanager raises and resolves alerts at a Prometheus Alertmanager, by
// version 2 of its API.
//
// Caveats:
//   - An alert without an end ends by itself after Alertmanager's resolve_timeout, 5
//     minutes unless it is configured: who raises one sends it again until it ends.
//   - Alertmanager compares an end with its own clock.
package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// An Alert is told by its labels: two with the same are one. A label's name is
// [a-zA-Z_][a-zA-Z0-9_]*, and one at least has a value.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"startsAt,omitzero"`
	EndsAt      time.Time         `json:"endsAt,omitzero"` // not before StartsAt; zero: it goes on
}

// Options of a Client.
type Options struct {
	URL                string // without /api/v2
	Username, Password string // "": none
	HTTP               *http.Client
}

// A Client posts alerts. Several goroutines may use it.
type Client struct{ o Options }

// New returns a Client. Nothing is asked.
func New(o Options) *Client {
	o.URL = strings.TrimSuffix(o.URL, "/")
	return &Client{o}
}

// ofAlerts are the statuses that are about what was sent: all others are of the
// server, of who asks, or of where.
var ofAlerts = []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}

// Post raises alerts, says that they go on, and resolves those whose end has come. An
// error is a *post.StatusError if Alertmanager does not take an alert; of several it
// may have taken the others.
func (c *Client) Post(ctx context.Context, alerts []Alert) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return err
	}
	r, err := post.Request(ctx, "POST", c.o.URL+"/api/v2/alerts", body, map[string]string{
		"Content-Type": "application/json"})
	if err != nil {
		return err
	}
	if c.o.Username != "" {
		r.SetBasicAuth(c.o.Username, c.o.Password)
	}
	err = post.Do(c.o.HTTP, r)
	if e, ok := errors.AsType[*post.StatusError](err); ok && !slices.Contains(ofAlerts, e.Status) {
		return fmt.Errorf("alertmanager answers with %v", e) // as text: it is tried again, whatever the status
	}
	return err
}
