// Package listen opens the bridge's sockets and finds out what comes in by them:
// the first byte, the TLS handshake and its ALPN, the way into MQTT by WebSocket,
// and how many connections there may be, of all and of each address. It does not
// judge who a client is, and answers no request: it is handed who does.
//
// An [HTTPS] is the listener of the AWS APIs and of MQTT beside them, with its
// server. [TCP] and [Socket] open what needs none of that.
//
// net/http is not told that a connection has TLS (see tlsConn); a handler finds
// it in Request.TLS all the same.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// TCP listens at the address of a setting, which its error names with what
// to do.
func TCP(ctx context.Context, setting, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	hint := ""
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		hint = fmt.Sprintf(": another program has this port: end it, or set %s to another", setting)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = fmt.Sprintf(": this machine does not have that address: set %s to one that it has, or to :PORT for all",
			setting)
	case errors.Is(err, syscall.EACCES):
		hint = fmt.Sprintf(": this user may not: set %s to a port of 1024 or more, or grant CAP_NET_BIND_SERVICE",
			setting)
	}
	return nil, fmt.Errorf("%s: %w%s", setting, err, hint)
}

// Socket opens the admin socket, replacing one that a killed process left. Only its
// owner may use it, or with open everybody, of whom the server finds out who it is.
func Socket(path string, open bool) (net.Listener, error) {
	mode := fs.FileMode(0o600)
	if open {
		mode = 0o666
	}
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("admin.socket: %s: another bridge answers there", path), c.Close())
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("admin.socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("admin.socket: %s: is there and no socket", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("admin.socket: %w", err)
		}
	}
	lc := net.ListenConfig{Control: ownerOnly}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	// For systems whose sockets have no mode before they are bound, and where a umask
	// takes from it.
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("admin.socket: %w", err), l.Close())
	}
	return l, nil
}

// ownerOnly sets the mode of a Unix socket before it is bound: Linux makes its
// file with this mode, less the umask, so that at no instant anybody else may
// connect (net/unix/af_unix.c, unix_bind_bsd).
func ownerOnly(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
}
