package access

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A Keyring has the access keys and what they may do. Keys, the grants beside
// them in the data directory and those of the configuration are read together
// and take effect at once, so that no key counts before its grant is known. A
// key that nothing is granted to may do nothing.
type Keyring struct {
	o     KeyringOptions
	mu    sync.Mutex // one load at a time; guards older
	now   atomic.Pointer[grants]
	older bool
}

// KeyringOptions are those of a Keyring.
type KeyringOptions struct {
	PKI        *pki.PKI
	Dir        string                          // of PKI, for what is logged
	Configured func() ([]config.Access, error) // reads [[access]]
	Permissive bool                            // keys that nobody named may do all
	Stored     func(id string) (user string)   // whose a key of the registry is; "": there is none
	// Older says that the data directory may be of a version before there were
	// grants, until Migrate: it is, if there is no file of grants.
	Older bool
	Log   *slog.Logger
}

// OpenKeyring reads the keys and grants.
func OpenKeyring(o KeyringOptions) (*Keyring, error) {
	k := &Keyring{o: o, older: o.Older}
	return k, k.Load()
}

// NeedsMigration says whether the data directory is of a version before there
// were grants, and Migrate was not called yet.
func (k *Keyring) NeedsMigration() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.older
}

// grants are what holds at a time. They do not change.
type grants struct {
	keys    map[string]pki.AccessKey
	named   map[string]config.Access // by the id of a key or the ARN of a role
	missing bool                     // the file beside the keys
}

// Load reads all anew. With an error nothing changes.
func (k *Keyring) Load() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	configured, err := k.o.Configured()
	if err != nil {
		return err
	}
	files, err := k.o.PKI.ReadAccess()
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if files.Grants != nil {
		k.older = false
	}
	g := &grants{keys: files.Keys, missing: files.Grants == nil, named: map[string]config.Access{}}
	beside, err := config.ParseAccess(files.Grants)
	if err != nil {
		return fmt.Errorf("%s: %w", pki.GrantsFile(k.o.Dir), err)
	}
	for _, a := range append(beside, configured...) { // the configuration's count
		g.named[a.Key+a.Role] = a
	}
	if err := k.stored(g); err != nil {
		return err
	}
	k.now.Store(g)
	return nil
}

// stored returns an error if a key of the files is a user's in the registry too:
// which of the two holds would be a matter of luck.
func (k *Keyring) stored(g *grants) (err error) {
	for _, id := range slices.Sorted(maps.Keys(g.keys)) {
		if user := k.o.Stored(id); user != "" {
			err = errors.Join(err, fmt.Errorf("%s: access key %s is user %s's in the registry too: "+
				"take it out of the file", pki.AccessKeysFile(k.o.Dir), id, user))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.named)) {
		if user := k.o.Stored(id); user != "" {
			err = errors.Join(err, fmt.Errorf("[[access]] grants something to access key %s, which is user %s's: "+
				"take it out of %s and of the configuration, and give the user a role or a policy", id, user,
				pki.GrantsFile(k.o.Dir)))
		}
	}
	return err
}

// Declared lists the keys of the files, by id.
func (k *Keyring) Declared() []people.KeyInfo {
	g, all := k.now.Load(), []people.KeyInfo{}
	for _, id := range slices.Sorted(maps.Keys(g.keys)) {
		grants := "nothing"
		switch a := k.of(g, id); {
		case a.All:
			grants = "all"
		case len(a.Policies) > 0:
			grants = "policies " + strings.Join(a.Policies, ", ")
		}
		all = append(all, people.KeyInfo{ID: id, Declared: pki.AccessKeysFile(k.o.Dir), Grants: grants,
			Status: registry.Active})
	}
	return all
}

// Migrate makes the file of grants for a folder of a version before it, where a
// key that [[access]] did not name could do all. The key of the first start
// keeps that, in so many words; other keys have to be granted what they may. It
// comes once in the life of a data directory: where a file was taken away, so
// were the rights.
func (k *Keyring) Migrate() error {
	configured, err := k.o.Configured()
	if err != nil {
		return err
	}
	a, err := k.o.PKI.ReadAccess()
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	first, file := a.First, pki.GrantsFile(k.o.Dir)
	if slices.ContainsFunc(configured, func(c config.Access) bool { return c.Key == first }) {
		first = ""
	}
	if err := k.o.PKI.GrantAll(first); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	k.o.Log.Warn("access keys may do from now on what is granted to them; the key of the first start was granted "+
		"all, as it could before",
		"key", first, "file", file)
	return k.Load()
}

// Warn warns of a file of grants that is missing, keys without grants and grants
// without keys. In an older data directory the file is still to be made.
func (k *Keyring) Warn() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.older {
		return
	}
	g := k.now.Load()
	if g.missing {
		k.o.Log.Warn("the file of what access keys may do is missing: it grants nothing; put it back, or use "+
			"[[access]]",
			"file", pki.GrantsFile(k.o.Dir))
	}
	for _, id := range slices.Sorted(maps.Keys(g.keys)) {
		if _, ok := g.named[id]; !ok {
			k.o.Log.Warn("an access key may do nothing: nothing is granted to it; name it in [[access]]", "key", id,
				"profile", g.keys[id].Profile, "file", pki.GrantsFile(k.o.Dir))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.named)) {
		if _, ok := g.keys[id]; !ok && g.named[id].Key != "" {
			k.o.Log.Warn("[[access]] grants something to a key that is not there", "key", id, "file",
				pki.AccessKeysFile(k.o.Dir))
		}
	}
}

// secret returns the secret and session token of a key of the file.
func (g *grants) secret(id string) (secret, token string, ok bool) {
	key, ok := g.keys[id]
	return key.Secret, key.Token, ok
}

// Granted is what a key of the file may do.
func (k *Keyring) Granted(id string) config.Access { return k.of(k.now.Load(), id) }

// of is what a key of the file may do.
func (k *Keyring) of(g *grants, id string) config.Access {
	a, named := g.named[id]
	if !named && k.o.Permissive {
		return config.Access{Key: id, All: true}
	}
	return a
}
