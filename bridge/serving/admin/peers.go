package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/people"
)

// A Peer gives roles to a user or a group of the system.
type Peer struct {
	UID, GID int // -1 for none
	Roles    []string
}

// Peers know what who asks may do: root and the bridge's own user have the role
// admin, others what is given to them, and who is given nothing is refused. They do
// not change; several goroutines may use them.
type Peers struct {
	own  int
	list []Peer
}

// NewPeers returns Peers of a list.
func NewPeers(list []Peer) (*Peers, error) {
	for i, p := range list {
		if _, err := people.RightsOf(p.Roles); err != nil {
			return nil, fmt.Errorf("admin.peers[%d].roles: %w", i, err)
		}
	}
	return &Peers{os.Getuid(), list}, nil
}

// A credential is who is at the other end of a connection, by its socket.
type credential struct {
	uid, pid int
	gids     []int
	failed   error // it could not be found out
}

// credentialKey is that of a credential in a connection's context.
type credentialKey struct{}

// errForbidden is what a peer has no role for.
var errForbidden = errors.New("not allowed")

// owner says whether a credential is root's or the bridge's own.
func (p *Peers) owner(c credential) bool { return c.uid == 0 || c.uid == p.own }

// roles are those of a credential.
func (p *Peers) roles(c credential) (names []string) {
	if p.owner(c) {
		return []string{people.Admin}
	}
	for _, m := range p.list {
		if m.UID == c.uid || m.UID < 0 && slices.Contains(c.gids, m.GID) {
			names = append(names, m.Roles...)
		}
	}
	return names
}

// known returns an error for who has no role at all. Without a socket it is this
// program itself who asks, over a data directory that it could open.
func (p *Peers) known(ctx context.Context) error {
	c, ok := ctx.Value(credentialKey{}).(credential)
	switch {
	case p == nil || !ok:
		return nil
	case c.failed != nil:
		return fmt.Errorf("%w: nobody knows who asks: %w", errForbidden, c.failed)
	case len(p.roles(c)) == 0:
		return fmt.Errorf("%w: uid %d has no role here: root or the bridge's user may ask, such as by sudo, "+
			"and whom [[admin.peers]] names", errForbidden, c.uid)
	}
	return nil
}

// allow returns an error unless who asks, and is known, may do an action.
func (p *Peers) allow(ctx context.Context, action, resource string) error {
	c, ok := ctx.Value(credentialKey{}).(credential)
	if p == nil || !ok {
		return nil
	}
	names := p.roles(c)
	rights, err := people.RightsOf(names)
	if err == nil && !rights.Allow(action, resource, authz.Context{}) {
		err = fmt.Errorf("%w: uid %d may not %s: it has the role %s", errForbidden, c.uid, action,
			strings.Join(names, ", "))
	}
	return err
}

// authorized is a handler of a row for those who may.
func (p *Peers) authorized(x row, arn string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		resource := arn + strings.TrimPrefix(r.URL.Path, "/v1/")
		if err := p.allow(r.Context(), "tidemill:"+x.action, resource); err != nil {
			return err
		}
		return x.answer(w, r)
	}
}
