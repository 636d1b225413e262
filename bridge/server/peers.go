package server

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// CheckPeers returns an error for a user, a group or a role of [[admin.peers]] that
// there is not on this machine.
func CheckPeers(list []config.Peer) error {
	var errs []error
	for i, p := range list {
		if _, err := people.RightsOf(p.Roles); err != nil {
			errs = append(errs, fmt.Errorf("admin.peers[%d].roles: %w", i, err))
		}
	}
	_, err := peersOf(list)
	return errors.Join(append(errs, err)...)
}

// openPeers makes those of [[admin.peers]], which a reload reads again.
func (a *assembly) openPeers() error {
	all, err := peersOf(a.cfg.Admin.Peers)
	if err != nil {
		return err
	}
	if a.peers, err = admin.NewPeers(all); err != nil {
		return err
	}
	a.readPeers = func() error {
		c := a.cfg
		if a.reread != nil {
			read, err := a.reread()
			if err != nil {
				return nil // the reading of keys tells it
			}
			c = read
		}
		all, err := peersOf(c.Admin.Peers)
		if err != nil {
			return err
		}
		return a.peers.Replace(all)
	}
	return nil
}

// peersOf are those of [[admin.peers]], as the system numbers them now.
func peersOf(list []config.Peer) ([]admin.Peer, error) {
	if len(list) > 0 && !admin.KnowsPeers {
		return nil, errors.New("admin.peers: this system does not tell who is at the other end of a socket: want none")
	}
	var all []admin.Peer
	for i, p := range list {
		peer := admin.Peer{UID: -1, GID: -1, Roles: p.Roles}
		var err error
		if p.User != "" {
			peer.UID, err = number(p.User, func(name string) (string, error) {
				u, err := user.Lookup(name)
				if err != nil {
					return "", err
				}
				return u.Uid, nil
			})
		} else {
			peer.GID, err = number(p.Group, func(name string) (string, error) {
				g, err := user.LookupGroup(name)
				if err != nil {
					return "", err
				}
				return g.Gid, nil
			})
		}
		if err != nil {
			return nil, fmt.Errorf("admin.peers[%d]: %w; a number is taken too", i, err)
		}
		all = append(all, peer)
	}
	return all, nil
}

// number is a number that is written as one, or that of a name.
func number(text string, of func(name string) (string, error)) (int, error) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return int(n), nil
	}
	text, err := of(text)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return int(n), err
}
