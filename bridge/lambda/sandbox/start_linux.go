package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options of a Sandbox.
type Options struct {
	// Dir is an empty folder of the bridge's own. Nothing is written there: each
	// process has its root over it.
	Dir string
	// Plain and User have processes without namespaces, and with those of a user
	// that is not root, where more is to be had; NoCgroup has memory watched. They
	// are for tests.
	Plain, User, NoCgroup bool
	Log                   *slog.Logger
}

const (
	// firstUID begins the users of processes, which nobody else has: systemd and
	// Debian leave 1,879,048,192 to 2,147,352,576 alone (systemd, UIDS-GIDS). Each
	// bridge on a machine has maxUIDs of its own, by its process id, since what bounds
	// the processes of a user counts them wherever they are.
	firstUID = 2_000_000_000
	maxUIDs  = 2048
	// moreData is what RLIMIT_DATA lets a process have beyond its memory, where that
	// is watched only: Go does not start below 128 MB.
	moreData = 128 << 20
)

// A Sandbox starts processes. Several goroutines may use it.
type Sandbox struct {
	dir    string
	means  Means
	groups cgroups
	log    *slog.Logger

	mu   sync.Mutex // guards what follows
	uids map[int]bool
	next int // of the names of groups
}

// Open finds out what separates processes here, by starting one that ends at once.
func Open(o Options) (*Sandbox, error) {
	s := &Sandbox{dir: o.Dir, log: o.Log, uids: map[int]bool{}}
	if !o.NoCgroup {
		s.groups = openCgroups("/")
	}
	tries := []string{"root", "user"}
	switch {
	case o.Plain:
		tries = nil
		s.means.Why = "switched off"
	case o.User || os.Geteuid() != 0:
		tries = tries[1:]
	}
	seccomp := haveSeccomp
	for _, namespaces := range tries {
		s.means = Means{Namespaces: namespaces, OwnUser: namespaces == "root", Cgroup: s.groups.version,
			Seccomp: seccomp}
		err := s.probe()
		if err == nil {
			return s, nil
		}
		s.means.Why = err.Error()
	}
	s.means = Means{Why: s.means.Why, Cgroup: s.groups.version, Seccomp: seccomp}
	if err := s.probe(); err != nil {
		s.means.Seccomp = false
		if err := s.probe(); err != nil {
			return nil, fmt.Errorf("sandbox: no process can be started: %w", err)
		}
	}
	return s, nil
}

// Means returns what separates processes.
func (s *Sandbox) Means() Means { return s.means }

// Close gives back what is the bridge's in the system, when no process runs.
func (s *Sandbox) Close() error {
	s.groups.remove()
	return nil
}

func (s *Sandbox) probe() error {
	p, err := s.start(Spec{Listen: nil, Argv: []string{"probe"}, Memory: 128 << 20}, io.Discard, true)
	if err != nil {
		return err
	}
	<-p.Done()
	if err := p.Err(); err.Status != 0 {
		return err
	}
	return nil
}

// Start starts a process, whose output is written to out until it ends. It returns
// when the process has become that of spec, or why it did not.
func (s *Sandbox) Start(spec Spec, out io.Writer) (*Process, error) {
	return s.start(spec, out, false)
}

func (s *Sandbox) start(spec Spec, out io.Writer, probe bool) (*Process, error) {
	o := &order{Spec: spec, Seccomp: s.means.Seccomp, Probe: probe}
	p := &Process{done: make(chan struct{}), memory: spec.Memory}
	if s.means.Isolated() {
		o.Root, o.Own = s.dir, s.means.Namespaces == "user"
	} else if len(spec.Listen) > 0 {
		return nil, errors.New("sandbox: no network of the process's own to listen in")
	}
	if s.means.OwnUser || o.Own {
		o.Procs = maxProcesses
	}
	if s.means.Cgroup == "" && spec.Memory > 0 {
		o.Data = uint64(spec.Memory) + moreData
	}
	name, uid, err := s.reserve()
	if err != nil {
		return nil, err
	}
	p.release = func() { s.free(uid) }
	if p.UID = os.Geteuid(); s.means.OwnUser {
		o.UID, p.UID = uid, uid
	}
	if p.group, err = s.groups.group(name, spec.Memory); err == nil {
		err = p.start(o, s.attributes(), out)
	}
	if err != nil {
		p.group.remove()
		p.release()
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if p.group == nil && spec.Memory > 0 {
		go p.watch()
	}
	return p, nil
}

// reserve takes a user's number and a group's name.
func (s *Sandbox) reserve() (name string, uid int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := firstUID + os.Getpid()%(1<<16)*maxUIDs
	for uid = first; s.uids[uid]; uid++ {
	}
	if uid >= first+maxUIDs {
		return "", 0, fmt.Errorf("sandbox: %d processes run", maxUIDs)
	}
	s.uids[uid] = true
	s.next++
	return strconv.Itoa(s.next), uid, nil
}

func (s *Sandbox) free(uid int) {
	s.mu.Lock()
	delete(s.uids, uid)
	s.mu.Unlock()
}

// attributes are what the kernel does for a new process.
func (s *Sandbox) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if s.means.Isolated() {
		a.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	if s.means.Namespaces == "user" {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// start starts the child and has it become the process.
func (p *Process) start(o *order, attributes *syscall.SysProcAttr, out io.Writer) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer ours.Close()
	defer theirs.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	var w *os.File
	if p.output, w, err = newOutput(out); err != nil {
		return err
	}
	defer w.Close()
	dir := ""
	if o.Root == "" {
		dir = o.Task
	}
	begun := make(chan error)
	go p.run(&os.ProcAttr{Dir: dir, Env: []string{}, Files: []*os.File{null, w, w, theirs}, Sys: attributes}, begun)
	if err := <-begun; err != nil {
		_ = p.output.pipe.Close()
		return err
	}
	_ = theirs.Close()
	_ = w.Close()
	if err = p.group.add(p.pid); err == nil {
		err = p.send(ours, o)
	}
	if err != nil {
		for _, l := range p.Listeners {
			_ = l.Close()
		}
		p.Kill()
		<-p.done
	}
	return err
}

// run starts the child and waits for its end, both on one thread: the parent whose
// death kills the child is the thread, not the program (prctl(2), PR_SET_PDEATHSIG).
func (p *Process) run(attributes *os.ProcAttr, begun chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child, err := os.StartProcess("/proc/self/exe", []string{childName}, attributes)
	if err != nil {
		begun <- err
		return
	}
	p.pid = child.Pid
	copied := make(chan struct{})
	go func() { p.output.copy(); close(copied) }()
	begun <- nil
	state, err := child.Wait()
	p.end = &ExitError{Status: -1}
	if err == nil {
		status := state.Sys().(syscall.WaitStatus)
		if p.end.Status = status.ExitStatus(); status.Signaled() {
			p.end.Signal = int(status.Signal())
		}
	}
	p.group.signal(unix.SIGKILL) // what it has left, where it was not alone
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.mu.Lock()
	p.oom = p.oom || p.group.outOfMemory()
	p.most = max(p.most, p.group.peak())
	p.mu.Unlock()
	p.output.finish(copied)
	p.group.remove()
	p.release()
	close(p.done)
}

// send has the child do what the order says. It takes the listeners, and waits until
// the child has become the process, which closes the socket.
func (p *Process) send(to *os.File, o *order) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := to.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(text))), text...)); err != nil {
		return err
	}
	answer, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
	n, nr, _, _, err := unix.Recvmsg(int(to.Fd()), answer, rights, unix.MSG_CMSG_CLOEXEC)
	switch {
	case err != nil:
		return err
	case n == 0:
		return errors.New("the child ended")
	case answer[0] == 'E':
		return errors.New(string(answer[1:n]))
	}
	if err := p.listeners(rights[:nr]); err != nil {
		return err
	}
	rest, err := io.ReadAll(io.LimitReader(to, 4096))
	switch text := string(answer[1:n]) + string(rest); {
	case err != nil:
		return err
	case text == "":
		return nil
	case text[0] == 'X':
		return fmt.Errorf("%w: %s", ErrExec, text[1:])
	default:
		return errors.New(text[1:])
	}
}

// listeners are made of the sockets that the child sent.
func (p *Process) listeners(rights []byte) error {
	all, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return err
	}
	for i := range all {
		fds, err := unix.ParseUnixRights(&all[i])
		if err != nil {
			return err
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "listener")
			l, err := net.FileListener(f)
			_ = f.Close() // the listener has its own
			if err != nil {
				return err
			}
			p.Listeners = append(p.Listeners, l)
		}
	}
	return nil
}
