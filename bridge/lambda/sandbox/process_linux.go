package sandbox

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is one that was started, with all that it starts itself.
type Process struct {
	// Listeners are those that Spec.Listen asked for. The caller closes them.
	Listeners []net.Listener
	UID       int // user that it has outside

	pid     int
	memory  int64
	group   *group
	output  *output
	release func()
	done    chan struct{}
	end     *ExitError // set before done is closed

	mu   sync.Mutex // guards what follows
	oom  bool
	most int64
}

// Done is closed when the process and all that it started are gone, and its output
// is written.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how it ended, once it is done; a status of 0 is one too.
func (p *Process) Err() *ExitError { return p.end }

// OutOfMemory says whether it was killed for its memory, once it is done.
func (p *Process) OutOfMemory() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.oom
}

// Peak is the most memory that it had so far, in bytes.
func (p *Process) Peak() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.group != nil {
		p.most = max(p.most, p.group.peak())
	} else {
		p.most = max(p.most, resident(p.pid, 0))
	}
	return p.most
}

// Freeze stops it, until Thaw lets it go on. A process that is frozen can be killed.
func (p *Process) Freeze() {
	if !p.group.freeze(true) {
		p.signal(unix.SIGSTOP)
	}
}

// Thaw lets it go on.
func (p *Process) Thaw() {
	if !p.group.freeze(false) {
		p.signal(unix.SIGCONT)
	}
}

// Terminate asks it to end.
func (p *Process) Terminate() { p.signal(unix.SIGTERM) }

// Kill ends it. It does not wait.
func (p *Process) Kill() {
	p.signal(unix.SIGKILL)
	p.group.signal(unix.SIGKILL)
}

// Drain hands on what the process has written so far.
func (p *Process) Drain() { p.output.drain() }

// signal sends s to the process's session; one that it left is reached by the group
// alone.
func (p *Process) signal(s unix.Signal) {
	select {
	case <-p.done: // the number may be another's
		return
	default:
	}
	if p.group != nil && s != unix.SIGKILL && s != unix.SIGTERM {
		p.group.signal(s)
		return
	}
	_ = unix.Kill(-p.pid, s) // gone already
}

func signalName(n int) string { return unix.SignalName(unix.Signal(n)) }

// watchEvery is how often memory is looked at where no group bounds it.
const watchEvery = 100 * time.Millisecond

// watch kills the process when it has more memory than it may have.
func (p *Process) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		n := resident(p.pid, 0)
		p.mu.Lock()
		p.most = max(p.most, n)
		if n > p.memory {
			p.oom = true
		}
		kill := p.oom
		p.mu.Unlock()
		if kill {
			p.Kill()
		}
	}
}

// maxDepth bounds how deep a tree of processes is looked through.
const maxDepth = 64

// resident is the memory of a process and its children that is in RAM, in bytes.
// Pages that they share are counted for each.
func resident(pid, depth int) (n int64) {
	dir := "/proc/" + strconv.Itoa(pid)
	if text, err := os.ReadFile(dir + "/statm"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 2 {
			all, _ := strconv.ParseInt(f[1], 10, 64)
			shared, _ := strconv.ParseInt(f[2], 10, 64) // of files: programs and libraries
			n = (all - shared) * int64(os.Getpagesize())
		}
	}
	if depth == maxDepth {
		return n
	}
	tasks, _ := os.ReadDir(dir + "/task")
	for _, task := range tasks {
		children, _ := os.ReadFile(dir + "/task/" + task.Name() + "/children")
		for c := range strings.FieldsSeq(string(children)) {
			if child, err := strconv.Atoi(c); err == nil {
				n += resident(child, depth+1)
			}
		}
	}
	return n
}

// OwnsPeer says whether the other end of a connection on loopback is of the
// process's user. It is for connections that do not come out of a network of the
// process's own.
func (p *Process) OwnsPeer(c net.Conn) bool {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return false
	}
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil || !peer.Addr().Unmap().Is4() || !local.Addr().Unmap().Is4() {
		return false
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return false
	}
	defer f.Close()
	from, to := inTable(peer), inTable(local)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid .. (proc_net_tcp)
		col := strings.Fields(lines.Text())
		if len(col) > 7 && col[1] == from && col[2] == to {
			return col[7] == strconv.Itoa(p.UID)
		}
	}
	return false
}

// inTable is an address as /proc/net/tcp has it, on a little-endian machine.
func inTable(a netip.AddrPort) string {
	b := a.Addr().Unmap().As4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", b[3], b[2], b[1], b[0], a.Port())
}
