//go:build !linux

package sandbox

import (
	"errors"
	"io"
	"log/slog"
	"net"
)

// errUnsupported is what Open and Start return: functions run on Linux only.
var errUnsupported = errors.New("sandbox: functions run on Linux only")

// Options of a Sandbox.
type Options struct {
	Dir                   string
	Plain, User, NoCgroup bool
	Log                   *slog.Logger
}

// A Sandbox starts nothing here.
type Sandbox struct{}

// Open fails.
func Open(Options) (*Sandbox, error) { return nil, errUnsupported }

// Means returns nothing.
func (*Sandbox) Means() Means { return Means{} }

// Close does nothing.
func (*Sandbox) Close() error { return nil }

// Start fails.
func (*Sandbox) Start(Spec, io.Writer) (*Process, error) { return nil, errUnsupported }

// A Process is never started.
type Process struct {
	Listeners []net.Listener
	UID       int
}

// The methods are those of Linux.
func (*Process) Done() <-chan struct{}  { return nil }
func (*Process) Err() *ExitError        { return nil }
func (*Process) OutOfMemory() bool      { return false }
func (*Process) Peak() int64            { return 0 }
func (*Process) Freeze()                {}
func (*Process) Thaw()                  {}
func (*Process) Kill()                  {}
func (*Process) Terminate()             {}
func (*Process) Drain()                 {}
func (*Process) OwnsPeer(net.Conn) bool { return false }
func signalName(int) string             { return "" }
