package server

import (
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
)

// A group and a role that there are not are told of together.
func TestPeersTellAllThatIsWrong(t *testing.T) {
	err := CheckPeers([]config.Peer{{Group: "no-such-group-here", Roles: []string{"oper"}}})
	if err == nil || !strings.Contains(err.Error(), "no-such-group-here") || !strings.Contains(err.Error(), "oper") {
		t.Error(err)
	}
}
