package access

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/customauth"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/webhook"
)

// CustomAuthorizers are those of the configuration and those of the registry,
// whose functions are named by the ARNs of the configuration's hooks. It
// implements iot.Authorizers. What changed in the registry counts from the next
// question on.
type CustomAuthorizers struct {
	*customauth.Authorizers
	stale    atomic.Bool // the registry has changed since it was read
	loadMu   sync.Mutex  // held over reading the registry
	registry registry.Viewer
	fixed    []customauth.Authorizer // of the configuration
	hooks    map[string]config.Hook  // where functions are, by ARN
	own      webhook.Functions       // that need no hook
	log      *slog.Logger
}

// OpenCustomAuthorizers reads the custom authorizers of the configuration and of
// the registry. report is called for each call of their functions. The caller must
// Close it.
func OpenCustomAuthorizers(fixed []config.Authorizer, hooks []config.Hook, own webhook.Functions, r registry.Viewer,
	report webhook.Report, log *slog.Logger) (*CustomAuthorizers, error) {
	c := &CustomAuthorizers{registry: r, hooks: map[string]config.Hook{}, own: own, log: log}
	var err error
	if c.fixed, err = configured(fixed); err != nil {
		return nil, err
	}
	for _, h := range hooks {
		c.hooks[h.ARN] = h
	}
	if c.Authorizers, err = customauth.New(c.fixed, own, report); err != nil {
		return nil, err
	}
	c.load()
	return c, nil
}

// Changed says that the registry's authorizers have changed. It does not wait.
func (c *CustomAuthorizers) Changed() { c.stale.Store(true) }

// fresh takes up what has changed, before a question is answered.
func (c *CustomAuthorizers) fresh() {
	if !c.stale.Load() {
		return
	}
	c.loadMu.Lock()
	defer c.loadMu.Unlock()
	if c.stale.CompareAndSwap(true, false) { // a change from now on is taken up by the next
		c.load()
	}
}

// Any is customauth.Authorizers'.
func (c *CustomAuthorizers) Any() bool {
	c.fresh()
	return c.Authorizers.Any()
}

// Check is customauth.Authorizers'.
func (c *CustomAuthorizers) Check(a *customauth.Attempt) error {
	c.fresh()
	return c.Authorizers.Check(a)
}

// Ask is customauth.Authorizers'.
func (c *CustomAuthorizers) Ask(ctx context.Context, a *customauth.Attempt) (*customauth.Verdict, error) {
	c.fresh()
	return c.Authorizers.Ask(ctx, a)
}

// load takes up what the registry has. An authorizer that cannot be used, such
// as one whose hook is not configured any more, is left out: its clients are
// refused.
func (c *CustomAuthorizers) load() {
	all := slices.Clone(c.fixed)
	standard := c.Standard() != ""
	err := view(c.registry, func(tx records) error {
		for after := ""; ; {
			page, next, err := tx.Authorizers(after, 0)
			for i := range page {
				if err := c.Usable(&page[i]); err != nil {
					c.log.Warn("an authorizer is not used", "err", err)
					continue
				}
				a := c.read(&page[i])
				a.Default = !standard && tx.DefaultAuthorizer() == a.Name
				all = append(all, a)
			}
			if after = next; err != nil || next == "" {
				return err
			}
		}
	})
	if err == nil {
		err = c.Set(all)
	}
	if err != nil {
		c.log.Error("custom authorizers stay as they were", "err", err)
	}
}

// Standard implements iot.Authorizers.
func (c *CustomAuthorizers) Standard() string {
	i := slices.IndexFunc(c.fixed, func(a customauth.Authorizer) bool { return a.Default })
	if i < 0 {
		return ""
	}
	return c.fixed[i].Name
}

func (c *CustomAuthorizers) read(a *registry.Authorizer) customauth.Authorizer {
	h := c.hook(a.Function)
	out := customauth.Authorizer{Name: a.Name, URL: h.URL, MaxCalls: h.MaxCalls, TokenKey: a.TokenKey,
		Disabled: a.Status != registry.Active, Cache: a.Cache}
	if !a.SigningDisabled {
		for _, name := range slices.Sorted(maps.Keys(a.Keys)) {
			out.PublicKeys = append(out.PublicKeys, []byte(a.Keys[name]))
		}
	}
	return out
}

// hook is where a function is: what the configuration says, or the function itself if
// it is the bridge's own.
func (c *CustomAuthorizers) hook(function string) config.Hook {
	h, ok := c.hooks[function]
	if !ok && c.own.HasFunction(function) {
		h.URL = function
	}
	return h
}

// Usable implements iot.Authorizers.
func (c *CustomAuthorizers) Usable(a *registry.Authorizer) error {
	if c.hook(a.Function).URL == "" {
		return fmt.Errorf("authorizer %s: function %.200q: %w: no [[hooks]] of the configuration has this arn, "+
			"and the bridge no such function", a.Name, a.Function, registry.ErrInvalid)
	}
	if slices.ContainsFunc(c.fixed, func(f customauth.Authorizer) bool { return f.Name == a.Name }) {
		return fmt.Errorf("authorizer %s: %w: the configuration has one of this name", a.Name, registry.ErrInvalid)
	}
	if err := customauth.Check(c.read(a)); err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	return nil
}

// Test implements iot.Authorizers.
func (c *CustomAuthorizers) Test(ctx context.Context, name, token, signature string,
	a *customauth.Attempt) (*customauth.Verdict, error) {
	a.Shown = map[string]string{customauth.NameKey: name}
	err := view(c.registry, func(tx records) error {
		stored, err := tx.Authorizer(name)
		if token != "" && stored.TokenKey != "" {
			a.Shown[strings.ToLower(stored.TokenKey)] = token
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if signature != "" {
		a.Shown[customauth.SignatureKey] = signature
	}
	return c.Ask(ctx, a)
}

// configured reads the custom authorizers of the configuration.
func configured(of []config.Authorizer) (all []customauth.Authorizer, err error) {
	for i, c := range of {
		a := customauth.Authorizer{Name: c.Name, URL: c.URL, TokenKey: c.TokenKey, Default: c.Default,
			Disabled: c.Status == "INACTIVE", Cache: c.Cache, MaxCalls: c.MaxCalls}
		for _, path := range c.PublicKeys {
			key, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("authorizers[%d].public_keys: %w", i, err)
			}
			a.PublicKeys = append(a.PublicKeys, key)
		}
		all = append(all, a)
	}
	return all, nil
}
