package access

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// FunctionKeys gives processes of functions access keys of their function's role, which
// have what [[access]] grants to that role: nothing is the rule. A key is in memory
// alone. It holds until it expires, its process has ended, or the function is gone or has
// another role; what it may do follows the grants and policies at each request. Several
// goroutines may use it.
type FunctionKeys struct {
	keys *Keyring
	from temporaryKeys
	role func(function, version string) string

	mu   sync.Mutex // guards held
	held map[string]functionKey
}

// A functionKey is one that was given to a process.
type functionKey struct {
	registry.TemporaryKey
	function, version string
}

// NewFunctionKeys returns keys whose secrets from derives. role is the role of a version
// of a function, "" of one that is not there.
func NewFunctionKeys(keys *Keyring, from temporaryKeys, role func(function, version string) string) *FunctionKeys {
	return &FunctionKeys{keys: keys, from: from, role: role, held: map[string]functionKey{}}
}

// Granted says whether anything is granted to a role.
func (x *FunctionKeys) Granted(role string) bool {
	return role != "" && len(x.keys.now.Load().named[role].Policies) > 0
}

// Give makes a key for a process of a function, for so long at most. ok is false if
// nothing is granted to its role.
func (x *FunctionKeys) Give(function, version string, life time.Duration) (id string, key pki.AccessKey, ends time.Time,
	ok bool) {
	role := x.role(function, version)
	if !x.Granted(role) {
		return "", key, ends, false
	}
	id, ends = x.from.TemporaryID("function", function, uuid.NewString()), time.Now().Add(life)
	k := functionKey{registry.TemporaryKey{ID: id, Role: role, Certificate: "function/" + function, Expires: ends},
		function, version}
	x.mu.Lock()
	x.held[id] = k
	x.mu.Unlock()
	return id, x.from.Temporary(id), ends, true
}

// End ends a key.
func (x *FunctionKeys) End(id string) {
	x.mu.Lock()
	delete(x.held, id)
	x.mu.Unlock()
}

// key returns a key that holds.
func (x *FunctionKeys) key(id string) (registry.TemporaryKey, bool) {
	if x == nil {
		return registry.TemporaryKey{}, false
	}
	x.mu.Lock()
	k, ok := x.held[id]
	x.mu.Unlock()
	if !ok || !time.Now().Before(k.Expires) || x.role(k.function, k.version) != k.Role {
		return registry.TemporaryKey{}, false
	}
	return k.TemporaryKey, true
}
