package admin

import (
	"context"
	"net"
	"syscall"
)

// WithPeer is an http.Server's ConnContext of the admin socket: it finds out who is
// at the other end (SO_PEERCRED, unix(7)).
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			ctx = context.WithValue(ctx, peerKey{}, peer{int(cred.Uid), int(cred.Pid)})
		}
	})
	return ctx
}
