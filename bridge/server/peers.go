package server

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// peersOf are those of [[admin.peers]], as the system numbers them now.
func peersOf(list []config.Peer) (*admin.Peers, error) {
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
	return admin.NewPeers(all)
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
