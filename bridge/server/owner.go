package server

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// checkUser refuses root over the data directory of another user, before anything is made
// there: that user, who may replace its secrets, could not go on with what root leaves.
func checkUser(dir string) error {
	is, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil // it is made, or told by who opens it
	}
	st, ok := is.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	name := "#" + strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(name[1:]); err == nil {
		name = u.Username
	}
	return fmt.Errorf("data_dir: %s belongs to user %s, and this is root: run it as that user, "+
		"sudo -u '%s' tidemill-bridge, with -config", dir, name, name)
}
