// Package sandbox starts processes that see as little of the machine as the
// kernel lets: a root of their own with the system's programs to read, an own
// /tmp, no other process, no network but loopback of their own, bounded memory and
// number of processes, no privileges to gain. Open finds out what is to be had
// here; Means says it.
//
// A process is started in two steps: the kernel makes the namespaces for a copy of
// this very program, which arranges what is inside (child) and then becomes the
// process. So a program that uses the package must let its init run; nothing else
// of the program does.
//
// When the program that started them ends, by kill -9 too, the kernel kills the
// processes: the first of a namespace by its parent's death, and all others with it.
package sandbox

import (
	"errors"
	"fmt"
	"strings"
)

// ErrExec is what Start returns, wrapped, if there is no such program, or it cannot
// run.
var ErrExec = errors.New("cannot be run")

// Means are what separates processes here.
type Means struct {
	// Namespaces is "root" or "user" by who makes them: then a process has its own
	// root, /tmp, process ids and network. "": it has none of that, and Why says why.
	Namespaces string
	Why        string
	// OwnUser says that each process has a user of its own.
	OwnUser bool
	// Cgroup is "v1" or "v2": memory and the number of processes are bounded by the
	// kernel. "": memory is looked at every 100 ms.
	Cgroup string
	// Seccomp says that the system calls of mounts, tracing, namespaces, keys, raw
	// sockets and the like are refused.
	Seccomp bool
}

// Isolated says whether processes are kept from the files of others and from the
// network.
func (m Means) Isolated() bool { return m.Namespaces != "" }

func (m Means) String() string {
	var parts []string
	switch {
	case m.Namespaces == "":
		parts = append(parts, "no namespaces ("+m.Why+"): files and network are the bridge's")
	default:
		parts = append(parts, "own root, /tmp, processes and network ("+m.Namespaces+" namespaces)")
	}
	if m.OwnUser {
		parts = append(parts, "a user for each process")
	}
	if m.Cgroup == "" {
		parts = append(parts, "memory watched every 100 ms")
	} else {
		parts = append(parts, "memory and processes bounded by cgroup "+m.Cgroup)
	}
	if m.Seccomp {
		parts = append(parts, "system call filter")
	}
	return strings.Join(parts, ", ")
}

// A Spec is what to start.
type Spec struct {
	Argv, Env []string
	// Task is the folder that becomes the working directory: /var/task in namespaces.
	Task string
	// Binds are more folders or files that the process may read, at their own
	// paths; those in Mounts at others.
	Binds  []string
	Mounts map[string]string // from path to path
	Memory int64             // bytes
	// Listen are addresses on loopback to listen to in the process's own network.
	// Without namespaces Start refuses them.
	Listen []string
}

// TaskRoot is where a process in namespaces finds Spec.Task.
const TaskRoot = "/var/task"

const (
	// maxProcesses bounds processes and threads of a process: 1,024 (Lambda quotas).
	maxProcesses = 1024
	// maxFiles bounds open files: 1,024 (Lambda quotas).
	maxFiles = 1024
	// maxTmp bounds /tmp, which is memory: 512 MB (Lambda quotas, ephemeral
	// storage's default).
	maxTmp = 512 << 20
)

// An ExitError is how a process ended that should not have.
type ExitError struct {
	Status int // exit status, or -1
	Signal int // that killed it, or 0
}

func (e *ExitError) Error() string {
	if e.Signal != 0 {
		return fmt.Sprintf("signal: %s", signalName(e.Signal))
	}
	return fmt.Sprintf("exit status %d", e.Status)
}
