//go:build amd64 || arm64

package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// refused are system calls that a function has no use for: with them it could
// look for a way out of its namespaces in parts of the kernel that seldom see
// strangers.
var refused = []uint32{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN,
	unix.SYS_FSMOUNT, unix.SYS_FSCONFIG, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_CHROOT,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SETTIMEOFDAY,
	unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_SYSLOG, unix.SYS_VHANGUP, unix.SYS_FANOTIFY_INIT, unix.SYS_LOOKUP_DCOOKIE,
}

// haveSeccomp says that there is a filter for this processor.
const haveSeccomp = true

// Offsets in struct seccomp_data (seccomp(2)): number, processor, then from 16 on
// the arguments, of which the low halves are looked at.
const (
	atNumber = 0
	atArch   = 4
	atArg0   = 16
	atArg1   = 24
)

// Flags of clone that make namespaces: CLONE_NEWNS to CLONE_NEWNET, CLONE_NEWTIME
// aside, which clone does not take.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// filter makes the kernel refuse system calls of this thread and of all that comes
// of it: those of refused, clone for namespaces, sockets of packets and raw ones. As clone3's
// flags are in memory where no filter can see them, it is not there (ENOSYS), and
// the C libraries go on with clone.
func filter() error {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		above  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		anyBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
		denied = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	)
	do := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	// unless returns with action if the test is true, else goes on.
	unless := func(code uint16, k, action uint32) []unix.SockFilter {
		return []unix.SockFilter{{Code: code, Jf: 1, K: k}, do(ret, action)}
	}
	program := []unix.SockFilter{do(load, atArch), {Code: equal, Jt: 1, K: arch},
		do(ret, unix.SECCOMP_RET_KILL_PROCESS), do(load, atNumber)}
	// Calls of amd64's x32, which are another way to the same ones.
	program = append(program, unless(above, 0x40000000, denied)...)
	for _, n := range refused {
		program = append(program, unless(equal, n, denied)...)
	}
	const missing = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	program = append(program, unless(equal, unix.SYS_CLONE3, missing)...)
	clone := append([]unix.SockFilter{do(load, atArg0)}, unless(anyBit, newNamespaces, denied)...)
	clone = append(clone, do(ret, unix.SECCOMP_RET_ALLOW))
	socket := append([]unix.SockFilter{do(load, atArg0)}, unless(equal, unix.AF_PACKET, denied)...)
	socket = append(socket, unless(equal, unix.AF_VSOCK, denied)...)
	socket = append(socket, unless(equal, unix.AF_ALG, denied)...)
	socket = append(socket, unless(equal, unix.AF_NETLINK, unix.SECCOMP_RET_ALLOW)...) // always raw, by name
	// The type is what is left without SOCK_CLOEXEC and SOCK_NONBLOCK.
	socket = append(socket, do(load, atArg1), do(and, 0xf))
	socket = append(socket, unless(equal, unix.SOCK_RAW, denied)...)
	socket = append(socket, do(ret, unix.SECCOMP_RET_ALLOW))
	for _, part := range []struct {
		call uint32
		body []unix.SockFilter
	}{{unix.SYS_CLONE, clone}, {unix.SYS_SOCKET, socket}} {
		program = append(program, unix.SockFilter{Code: equal, Jf: uint8(len(part.body)), K: part.call})
		program = append(program, part.body...)
	}
	program = append(program, do(ret, unix.SECCOMP_RET_ALLOW))
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0)
}
