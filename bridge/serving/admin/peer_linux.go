package admin

import (
	"errors"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// KnowsPeers says whether the system tells who is at the other end of a socket, so
// that others than its owner may be let in.
const KnowsPeers = true

// maxGroups is how many groups a process has at most (NGROUPS_MAX, limits.h).
const maxGroups = 65536

// credentialOf finds out who is at the other end, when it connected (SO_PEERCRED and
// SO_PEERGROUPS, unix(7)).
func credentialOf(c *net.UnixConn) credential {
	who := credential{uid: -1, failed: errors.New("the connection is closed")}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			var cred *syscall.Ucred
			if cred, who.failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET,
				syscall.SO_PEERCRED); who.failed != nil {
				return
			}
			who.uid, who.pid = int(cred.Uid), int(cred.Pid)
			who.gids, who.failed = peerGroups(fd)
			who.gids = append(who.gids, int(cred.Gid))
		})
	}
	if err != nil {
		who.failed = err
	}
	return who
}

// peerGroups are the supplementary groups of the other end (SO_PEERGROUPS, of Linux
// 4.13; golang.org/x/sys has no function for it).
func peerGroups(fd uintptr) ([]int, error) {
	for buf := make([]uint32, 64); ; buf = make([]uint32, maxGroups) {
		size := uint32(len(buf) * 4) // in bytes
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && len(buf) < maxGroups:
			continue
		case errno == unix.ENOPROTOOPT:
			return nil, nil // an older kernel tells the first group alone
		case errno != 0:
			return nil, errno
		}
		var gids []int
		for _, g := range buf[:size/4] {
			gids = append(gids, int(g))
		}
		return gids, nil
	}
}
