package admin

import (
	"context"
	"net"
	"sync"
)

// Connections of users of the machine to the admin socket that may be open at once,
// our choice: of one with a role, and of all that have none and are told so. Root and
// the bridge's own user have no limit.
const (
	maxOfUser   = 64
	maxRoleless = 16
)

// Limit returns a listener of the admin socket that finds out who connects, and
// closes what there are too many of, so that nobody else on the machine can take all
// files of the bridge.
func (p *Peers) Limit(l net.Listener) net.Listener {
	return &limitedPeers{Listener: l, peers: p, open: map[int]int{}}
}

type limitedPeers struct {
	net.Listener
	peers *Peers

	mu   sync.Mutex  // guards open
	open map[int]int // connections by uid; of those without a role by -1
}

// A peerConn is a connection whose other end is known.
type peerConn struct {
	net.Conn
	who  credential
	once sync.Once
	free func() // once, when it is closed
}

// Close implements net.Conn.
func (c *peerConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

// Accept implements net.Listener.
func (l *limitedPeers) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		u, ok := c.(*net.UnixConn)
		if !ok {
			return c, nil
		}
		who := credentialOf(u)
		of, most := who.uid, maxOfUser
		switch {
		case who.failed != nil || len(l.peers.roles(who)) == 0:
			of, most = -1, maxRoleless
		case l.peers.owner(who):
			of, most = who.uid, 1<<30
		}
		l.mu.Lock()
		if full := l.open[of] >= most; !full {
			l.open[of]++
			l.mu.Unlock()
			return &peerConn{Conn: c, who: who, free: func() { l.free(of) }}, nil
		}
		l.mu.Unlock()
		_ = c.Close() // there is nobody to tell
	}
}

func (l *limitedPeers) free(of int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[of]--; l.open[of] == 0 {
		delete(l.open, of)
	}
}

// WithPeer is an http.Server's ConnContext of the admin socket: it says who is at the
// other end.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	p, ok := c.(*peerConn)
	if !ok {
		return ctx
	}
	if p.who.failed == nil && KnowsPeers {
		ctx = context.WithValue(ctx, peerKey{}, peer{p.who.uid, p.who.pid})
	}
	return context.WithValue(ctx, credentialKey{}, p.who)
}
