package declare

import (
	"context"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// records are what declarations need of a transaction of the registry.
type records interface {
	CreateRule(r registry.Rule) (registry.Rule, error)
	Declarations(prefix string, f func(name string, doc []byte)) error
	DeleteRule(name string) error
	ForgetDeclaration(name string) error
	KeepDeclaration(name string, doc []byte) error
	ReplaceRule(r registry.Rule) (registry.Rule, error)
	Rules(after string, n int) (page []registry.Rule, next string, err error)
	SetRuleDisabled(name string, disabled bool) (registry.Rule, error)
}

// view runs f on the registry as it stands.
func view(r registry.Viewer, f func(records) error) error {
	return r.View(func(tx *registry.Tx) error { return f(tx) })
}

// update makes what f changes durable, with a record of it in the audit log.
func update(ctx context.Context, r registry.Store, f func(records) error) error {
	return audit.Update(ctx, r, func(tx *registry.Tx) error { return f(tx) })
}

// store makes what f changes durable. It is no change that somebody asked for, so
// the audit log has none of it.
func store(r registry.Store, f func(records) error) error {
	return r.Update(func(tx *registry.Tx) error { return f(tx) })
}
