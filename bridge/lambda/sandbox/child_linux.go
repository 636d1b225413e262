package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childName is the first argument of the copy of this program that becomes a
// process. It is looked for before main runs, since a function must not depend on
// what the program that starts it does first.
const childName = "tidemill-function"

// control is the socket between the two, as a file descriptor of the child.
const control = 3

// An order is what the child does; it is sent over the socket.
type order struct {
	Spec
	Root    string // folder to make the new root on; "": no namespaces
	Own     bool   // the namespaces have their own users, of which this is all there is
	UID     int    // to become; 0: stay
	Data    uint64 // RLIMIT_DATA in bytes; 0: none
	Procs   uint64 // RLIMIT_NPROC; 0: none
	Seccomp bool
	Probe   bool // end in the place of the last step
}

func init() {
	if len(os.Args) == 0 || os.Args[0] != childName {
		return
	}
	runtime.LockOSThread() // what follows belongs to the thread that execs
	err := child()
	_, _ = unix.Write(control, []byte("E"+err.Error()))
	os.Exit(1)
}

// child arranges what the order says and becomes the process. It returns why it
// did not.
func child() error {
	unix.CloseOnExec(control)
	text, err := receive()
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	if o.Root != "" {
		if err := makeRoot(&o); err != nil {
			return fmt.Errorf("root: %w", err)
		}
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	if err := listen(o.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := drop(&o); err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	if o.Probe {
		os.Exit(0)
	}
	err = become(&o)
	_, _ = unix.Write(control, []byte("X"+o.Argv[0]+": "+err.Error()))
	os.Exit(1)
	return nil
}

// become runs the program in the place of this one. The bound of memory comes last,
// and all that takes memory before it: this program may have more than its
// successor may.
func become(o *order) error {
	path, err := unix.BytePtrFromString(o.Argv[0])
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(o.Argv)
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(o.Env)
	if err != nil {
		return err
	}
	if o.Data > 0 {
		if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: o.Data, Max: o.Data}); err != nil {
			return err
		}
	}
	_, _, failed := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	return failed
}

// receive reads an order: its length in four bytes, little endian, and JSON.
func receive() ([]byte, error) {
	var size [4]byte
	if err := readFull(size[:]); err != nil {
		return nil, err
	}
	text := make([]byte, int(size[0])|int(size[1])<<8|int(size[2])<<16|int(size[3])<<24)
	return text, readFull(text)
}

func readFull(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Read(control, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return errors.New("the bridge is gone")
		default:
			b = b[n:]
		}
	}
	return nil
}

// listen opens sockets in the child's own network and sends them to the bridge,
// which serves them from outside.
func listen(addresses []string) error {
	fds := make([]int, 0, len(addresses))
	for _, a := range addresses {
		at, err := net.ResolveTCPAddr("tcp4", a)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		to := &unix.SockaddrInet4{Port: at.Port}
		copy(to.Addr[:], at.IP.To4())
		if err := unix.Bind(fd, to); err != nil {
			return err
		}
		if err := unix.Listen(fd, 16); err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(control, []byte("L"), rights, nil, 0)
}

// loopbackUp switches the loopback of a new network on.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// drop gives up all that the process does not need, for good.
func drop(o *order) error {
	limits := []struct {
		what int
		most uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, maxFiles}, {unix.RLIMIT_NPROC, o.Procs}}
	for _, l := range limits {
		if l.most == 0 && l.what != unix.RLIMIT_CORE {
			continue
		}
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.most, Max: l.most}); err != nil {
			return fmt.Errorf("limit %d: %w", l.what, err)
		}
	}
	if o.UID != 0 {
		if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(o.UID, o.UID, o.UID),
			unix.Setresuid(o.UID, o.UID, o.UID)); err != nil {
			return err
		}
	}
	if o.Own { // the user 0 of the namespace has no more rights than its number outside
		if err := noCapabilities(); err != nil {
			return fmt.Errorf("capabilities: %w", err)
		}
	}
	// A change of user has cleared it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	// The bridge may have ended before that.
	poll := []unix.PollFd{{Fd: control, Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&unix.POLLHUP != 0 {
		return errors.New("the bridge is gone")
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if o.Seccomp {
		if err := filter(); err != nil {
			return fmt.Errorf("seccomp: %w", err)
		}
	}
	return nil
}

// noCapabilities takes all capabilities away, and user 0's way to get them by an
// exec.
func noCapabilities() error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		// A kernel that is older than the list does not know the last of them.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	const noRoot = 1<<0 | 1<<1 | 1<<2 | 1<<3 // SECBIT_NOROOT, SECBIT_NO_SETUID_FIXUP, both locked (capabilities(7))
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}
