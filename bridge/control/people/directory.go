package people

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A Store is the registry.
type Store interface {
	registry.Store
	Watch(f func(registry.Event)) (stop func())
}

// A Directory has users and keys in memory. Its methods may be called from several
// goroutines.
type Directory struct {
	store      Store
	log        *slog.Logger
	stop       func() // of Watch
	generation atomic.Uint64
	hashes     chan struct{} // one for each password that is being compared
	changed    chan struct{} // of one: Run looks when a key ends next

	mu    sync.RWMutex // guards what follows
	users map[string]*user
	keys  map[string]*Key

	useMu   sync.Mutex // guards what follows; taken alone
	uses    map[string]registry.KeyUse
	unsaved map[string]bool // of uses
}

// A user is one as of the last change. It does not change.
type user struct {
	rights   *Rights
	password string // its hash
	keys     []string
}

// A Key is an access key of a user. It does not change.
type Key struct {
	ID, Secret string
	Ends       time.Time // zero: it does not end by itself
	Rights     *Rights
}

// Open reads all users. Close it before the store.
func Open(s Store, log *slog.Logger) (*Directory, error) {
	d := &Directory{store: s, log: log, hashes: make(chan struct{}, hashesAtOnce), changed: make(chan struct{}, 1),
		users: map[string]*user{}, keys: map[string]*Key{}, unsaved: map[string]bool{}}
	var names []string
	err := s.View(func(tx *registry.Tx) (err error) {
		if d.uses, err = tx.KeyUses(); err != nil {
			return err
		}
		all, err := tx.Users()
		for _, u := range all {
			names = append(names, u.Name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		d.load(name)
	}
	d.stop = s.Watch(func(e registry.Event) {
		if e.Kind == registry.UserChanged {
			d.load(e.Name)
		}
	})
	return d, nil
}

// Close stops to follow the registry.
func (d *Directory) Close() error { d.stop(); return nil }

// load reads a user anew. One that cannot be read may do nothing.
func (d *Directory) load(name string) {
	u, keys, err := d.read(name)
	if err != nil {
		d.log.Error("a user cannot be read and may do nothing", "user", name, "err", err)
	}
	d.mu.Lock()
	old := d.users[name]
	if old != nil {
		for _, id := range old.keys {
			delete(d.keys, id)
		}
	}
	delete(d.users, name)
	if u != nil {
		for _, doc := range u.rights.docs {
			if err := doc.CheckActions(); err != nil {
				d.log.Warn("a policy of a user has an action that does not exist, which has no effect", "user", name,
					"policy", doc.Name, "err", err)
			}
		}
		d.users[name] = u
		for _, k := range keys {
			d.keys[k.ID] = k
		}
	}
	d.mu.Unlock()
	d.forget(old)
	d.generation.Add(1)
	select {
	case d.changed <- struct{}{}:
	default: // a look is due that will see this too
	}
}

// forget forgets when keys were used last that a user does not have any more.
func (d *Directory) forget(old *user) {
	if old == nil {
		return
	}
	_ = d.store.View(func(tx *registry.Tx) error {
		d.useMu.Lock()
		defer d.useMu.Unlock()
		for _, id := range old.keys {
			if _, err := tx.AccessKey(id); errors.Is(err, registry.ErrNotFound) {
				delete(d.uses, id)
				delete(d.unsaved, id)
			}
		}
		return nil
	})
}

// read returns a user, nil if there is none, and the keys that are active.
func (d *Directory) read(name string) (u *user, keys []*Key, err error) {
	err = d.store.View(func(tx *registry.Tx) error {
		if !tx.HasUser(name) {
			return nil
		}
		row, err := tx.User(name)
		if err != nil {
			return err
		}
		rows, err := tx.AccessKeys(name)
		if err != nil {
			return err
		}
		rights, err := rightsOfUser(row)
		if err != nil {
			return err
		}
		read := &user{rights: rights, password: row.Password}
		for _, k := range rows {
			narrow, err := parseAll(k.Policies)
			if err != nil {
				return fmt.Errorf("access key %s: %w", k.ID, err)
			}
			if read.keys = append(read.keys, k.ID); k.Status != registry.Active {
				continue
			}
			r := *rights
			r.narrow = narrow
			keys = append(keys, &Key{k.ID, k.Secret, k.Ends, &r})
		}
		u = read
		return nil
	})
	return u, keys, err
}

// Generation grows with every change of users and keys, when it is in force.
func (d *Directory) Generation() uint64 { return d.generation.Load() }

// Key returns a key that is active and has not ended, nil if there is none.
func (d *Directory) Key(id string) *Key {
	d.mu.RLock()
	k := d.keys[id]
	d.mu.RUnlock()
	if k == nil || !k.Ends.IsZero() && !time.Now().Before(k.Ends) {
		return nil
	}
	return k
}

// Owner is the user of a key of the registry, active or not; "" if there is none.
func (d *Directory) Owner(id string) (user string) {
	_ = d.store.View(func(tx *registry.Tx) error {
		k, err := tx.AccessKey(id)
		if err == nil {
			user = k.User
		}
		return err
	})
	return user
}
