package server

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/pki"
)

// A keyring has the access keys and what they may do. Keys, the grants beside
// them in the data directory and those of the configuration are read together
// and take effect at once, so that no key counts before its grant is known. A
// key that nothing is granted to may do nothing.
type keyring struct {
	pki        *pki.PKI
	dir        string                          // of pki, for what is logged
	configured func() ([]config.Access, error) // reads the configuration
	permissive bool                            // keys that nobody named may do all
	log        *slog.Logger

	mu  sync.Mutex // one load at a time
	now atomic.Pointer[grants]

	// older says that the data directory is of a version before there were grants,
	// until migrate.
	older bool
}

// grants are what holds at a time. They do not change.
type grants struct {
	keys    map[string]pki.AccessKey
	named   map[string]config.Access // by the id of a key or the ARN of a role
	missing bool                     // the file beside the keys
}

// load reads all anew. With an error nothing changes.
func (k *keyring) load() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	configured, err := k.configured()
	if err != nil {
		return err
	}
	files, err := k.pki.ReadAccess()
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if files.Grants != nil {
		k.older = false
	}
	g := &grants{keys: files.Keys, missing: files.Grants == nil, named: map[string]config.Access{}}
	beside, err := config.ParseAccess(files.Grants)
	if err != nil {
		return fmt.Errorf("%s: %w", pki.GrantsFile(k.dir), err)
	}
	for _, a := range append(beside, configured...) { // the configuration's count
		g.named[a.Key+a.Role] = a
	}
	k.now.Store(g)
	return nil
}

// migrate makes the file of grants for a folder of a version before it, where a
// key that [[access]] did not name could do all. The key of the first start
// keeps that, in so many words; other keys have to be granted what they may. It
// comes once in the life of a data directory: where a file was taken away, so
// were the rights.
func (k *keyring) migrate() error {
	configured, err := k.configured()
	if err != nil {
		return err
	}
	a, err := k.pki.ReadAccess()
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	first, file := a.First, pki.GrantsFile(k.dir)
	if slices.ContainsFunc(configured, func(c config.Access) bool { return c.Key == first }) {
		first = ""
	}
	if err := k.pki.GrantAll(first); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	k.log.Warn("access keys may do from now on what is granted to them; the key of the first start was granted all, as it could before",
		"key", first, "file", file)
	return k.load()
}

// tell warns of a file of grants that is missing, keys without grants and grants
// without keys. In an older data directory the file is still to be made.
func (k *keyring) tell() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.older {
		return
	}
	g := k.now.Load()
	if g.missing {
		k.log.Warn("the file of what access keys may do is missing: it grants nothing; put it back, or use [[access]]",
			"file", pki.GrantsFile(k.dir))
	}
	for _, id := range slices.Sorted(maps.Keys(g.keys)) {
		if _, ok := g.named[id]; !ok {
			k.log.Warn("an access key may do nothing: nothing is granted to it; name it in [[access]]", "key", id,
				"profile", g.keys[id].Profile, "file", pki.GrantsFile(k.dir))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.named)) {
		if _, ok := g.keys[id]; !ok && g.named[id].Key != "" {
			k.log.Warn("[[access]] grants something to a key that is not there", "key", id, "file", pki.AccessKeysFile(k.dir))
		}
	}
}

// secret returns the secret and session token of a key of the file.
func (g *grants) secret(id string) (secret, token string, ok bool) {
	key, ok := g.keys[id]
	return key.Secret, key.Token, ok
}

// of is what a key of the file may do.
func (k *keyring) of(g *grants, id string) config.Access {
	a, named := g.named[id]
	if !named && k.permissive {
		return config.Access{Key: id, All: true}
	}
	return a
}

// openKeyring reads the keys of the data directory. Until AccessFrom was called
// the configuration stays as it is.
func (s *Server) openKeyring() error {
	s.keys = &keyring{pki: s.pki, dir: filepath.Join(s.cfg.DataDir, "pki"), permissive: s.cfg.HTTPS.Permissive, log: s.log, older: s.dir.New(),
		configured: func() ([]config.Access, error) { return s.cfg.Access, nil }}
	return s.keys.load()
}

// AccessFrom has Reload read [[access]] anew, by read. It must be called before
// Run.
func (s *Server) AccessFrom(read func() (*config.Config, error)) {
	s.keys.configured = func() ([]config.Access, error) {
		c, err := read()
		if err != nil {
			return nil, errors.Join(errors.New("keys and [[access]] stay as they are"), err)
		}
		return c.Access, nil
	}
}
