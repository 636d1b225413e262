package access

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/webhook"
)

// A countedRegistry counts its views.
type countedRegistry struct {
	registry.Viewer
	views atomic.Int64
}

func (r *countedRegistry) View(f func(*registry.Tx) error) error {
	r.views.Add(1)
	return r.Viewer.View(f)
}

// However many authorizers an update changes, it reads none of them: the next
// question does, once, and is answered by what the update left.
func TestAuthorizersAreReadWhenAsked(t *testing.T) {
	s := newSite(t)
	r := &countedRegistry{Viewer: s.registry}
	const function = "arn:aws:lambda:eu-local-1:000000000000:function:f"
	c, err := OpenCustomAuthorizers(nil, []config.Hook{{ARN: function, URL: "https://example.com/f"}},
		webhook.None{}, r, func(string, error) {}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	stop := s.registry.Watch(func(e registry.Event) {
		if e.Kind == registry.AuthorizerChanged {
			c.Changed()
		}
	})
	defer stop()
	before := r.views.Load()
	if c.Any() || r.views.Load() != before {
		t.Error("there is one, or it was read again")
	}
	s.update(func(tx *registry.Tx) error {
		for _, name := range []string{"a", "b", "c"} {
			if err := tx.CreateAuthorizer(registry.Authorizer{Name: name, Function: function, SigningDisabled: true,
				Status: registry.Active}); err != nil {
				return err
			}
		}
		return nil
	})
	if n := r.views.Load() - before; n != 0 {
		t.Errorf("an update waits for %d reads", n)
	}
	for range 3 {
		if !c.Any() {
			t.Error("there is none")
		}
	}
	if n := r.views.Load() - before; n != 1 {
		t.Errorf("%d reads", n)
	}
}
