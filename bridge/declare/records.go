package declare

import (
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

// inRegistry are they in a registry.
var inRegistry audit.Records[records] = func(tx *registry.Tx) records { return tx }
