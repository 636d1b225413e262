// Package rig runs the real programs on one machine: bridge and agents as
// processes that can be killed and started again, links that can be cut. The
// demonstration, the end-to-end tests and the system benchmarks stand on it.
package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A Process is a program that can be started more than once, one run at a
// time. Its output is appended to a file.
type Process struct {
	Path    string
	Args    []string
	Env     []string // added to this process's own
	LogFile string

	mu   sync.Mutex // guards cmd and done
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended and was reaped
	err  error         // of Wait, valid after done
}

// Start begins a run.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	// No child outlives a starter that was killed itself, and none hears the
	// terminal's Ctrl-C: the starter stops them, in its order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, done := make(chan error), make(chan struct{})
	go func() {
		// Pdeathsig is about the starting thread, so this one stays until the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = errors.Join(cmd.Wait(), out.Close())
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return errors.Join(err, out.Close())
	}
	p.cmd, p.done = cmd, done
	return nil
}

// Signal sends sig to the run, if there is one.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return os.ErrProcessDone
	}
	return p.cmd.Process.Signal(sig)
}

// PID is the process id of the run, 0 if there was none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Kill ends the run as a power cut would, by SIGKILL, and waits for its end.
func (p *Process) Kill() {
	if p.Signal(syscall.SIGKILL) == nil {
		<-p.ended()
	}
}

// Stop asks the run to end and waits; after limit it kills. It returns the
// exit error.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return nil // not running
	}
	select {
	case <-p.ended():
		return p.err
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("%s did not stop within %v", filepath.Base(p.Path), limit)
	}
}

// Exited says whether the last run has ended, and how.
func (p *Process) Exited() (bool, error) {
	select {
	case <-p.ended():
		return true, p.err
	default:
		return false, nil
	}
}

func (p *Process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		c := make(chan struct{})
		close(c)
		return c
	}
	return p.done
}

// FreePort returns a loopback address that was free a moment ago. It is below
// the ports that systems give to those who ask for none, so that no connection
// and no listener on port 0 takes it in the meantime. No address is returned
// twice: a program that was killed comes back to its own.
func FreePort() (string, error) {
	var err error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		if _, given := givenPorts.LoadOrStore(addr, true); given {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no free port: %w", err)
}

var givenPorts sync.Map // addresses that FreePort has returned or tried

// Until polls cond every 50 ms until it returns true or ctx ends; then the last
// error of cond is part of its own.
func Until(ctx context.Context, what string, cond func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := cond()
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(ctx.Err(), err))
		}
	}
}
