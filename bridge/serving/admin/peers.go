package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/lasting"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

// A Peer gives roles to a user or a group of the system.
type Peer struct {
	UID, GID int // -1 for none
	Roles    []string
}

// Peers know what who asks may do: root and the bridge's own user have the role
// admin, others what is given to them, and who is given nothing is refused. Several
// goroutines may use them.
type Peers struct {
	own  int
	list atomic.Pointer[[]Peer]
}

// NewPeers returns Peers of a list.
func NewPeers(list []Peer) (*Peers, error) {
	p := &Peers{own: os.Getuid()}
	return p, p.Replace(list)
}

// Replace gives p another list. With an error it keeps the one it has.
func (p *Peers) Replace(list []Peer) error {
	for i, x := range list {
		if _, err := people.RightsOf(x.Roles); err != nil {
			return fmt.Errorf("admin.peers[%d].roles: %w", i, err)
		}
	}
	p.list.Store(&list)
	return nil
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
	for _, m := range *p.list.Load() {
		if m.UID == c.uid || m.UID < 0 && slices.Contains(c.gids, m.GID) {
			names = append(names, m.Roles...)
		}
	}
	return names
}

// checkKnown returns an error for who has no role at all. Without a socket it is this
// program itself who asks, over a data directory that it could open.
func (p *Peers) checkKnown(ctx context.Context) error {
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

// changes is the action that who may change what is declared may do.
const changes = "tidemill:Reload"

// shown is an answer for who asks: as it is, or for who may not change what it is
// about without what lets in elsewhere, such as the headers of an action.
func (p *Peers) shown(ctx context.Context, v any) any {
	if p.allow(ctx, changes, "*") == nil {
		return v
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return audit.Hidden(text)
}

// readable returns an error for a stream of the bridge's own that who asks may not
// read: outboxes and queues have requests with all that is sent.
func (p *Peers) readable(ctx context.Context, stream string) error {
	if kinesis.IsName(stream) || stream == audit.Stream || stream == ingest.Stream {
		return nil
	}
	return p.allow(ctx, changes, "*")
}

// showing is how records of a stream are shown to who asks, by what he may at that
// time: those of the audit log have the documents that shown hides.
func (p *Peers) showing(ctx context.Context, stream string) func(data []byte) []byte {
	return func(data []byte) []byte {
		if stream == audit.Stream && p.allow(ctx, changes, "*") != nil {
			return audit.HiddenRecord(data)
		}
		return data
	}
}

// authorized is a handler of a row for those who may.
func (p *Peers) authorized(x row, arn string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		resource := arn + strings.TrimPrefix(r.URL.Path, "/v1/")
		if err := p.allow(r.Context(), "tidemill:"+x.action, resource); err != nil {
			return err
		}
		ctx, end := p.lasting(r.Context(), "tidemill:"+x.action, resource)
		defer end()
		err := x.answer(w, r.WithContext(ctx))
		if cause := context.Cause(ctx); errors.Is(cause, errForbidden) {
			return cause
		}
		return err
	}
}

// lasting is a context that ends with the right to an action; end has to be called.
func (p *Peers) lasting(ctx context.Context, action, resource string) (of context.Context, end func()) {
	if _, ok := ctx.Value(credentialKey{}).(credential); p == nil || !ok {
		return ctx, func() {}
	}
	return lasting.Watch(ctx, func() error {
		if err := p.checkKnown(ctx); err != nil {
			return err
		}
		return p.allow(ctx, action, resource)
	}, nil)
}
