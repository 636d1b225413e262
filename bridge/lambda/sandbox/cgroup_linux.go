package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// groupName begins the names of the bridge's groups; its process id follows.
const groupName = "tidemill-functions-"

// cgroups make a group for each process below the bridge's own. The zero value
// makes none.
type cgroups struct {
	version string            // "v1", "v2" or "" for none
	at      map[string]string // by controller, "memory" and "pids": the folder of the bridge's groups
}

// bridgeGroup is the group below its own that the bridge moves to in v2.
const bridgeGroup = "tidemill-bridge"

// openCgroups finds the hierarchies that the bridge may write to, in the files of root, which
// is "/" but in tests. What an earlier bridge left there that was killed is removed.
func openCgroups(root string) cgroups {
	own, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return cgroups{}
	}
	mounts, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return cgroups{}
	}
	v1, v2 := hierarchies(own, mounts)
	name := groupName + strconv.Itoa(os.Getpid())
	if v1["memory"] != "" && v1["pids"] != "" {
		c := cgroups{"v1", map[string]string{}}
		for controller := range v1 {
			at := filepath.Join(root, v1[controller])
			sweep(at)
			c.at[controller] = filepath.Join(at, name)
		}
		if c.make() == nil {
			return c
		}
		c.remove()
	}
	if within := filepath.Join(root, v2); v2 != "" && has(within, "memory", "pids") {
		sweep(within)
		at := filepath.Join(within, name)
		c := cgroups{"v2", map[string]string{"memory": at, "pids": at}}
		if c.make() == nil && delegate(within, at) == nil {
			return c
		}
		c.remove()
	}
	return cgroups{}
}

// has says whether the group of v2 at own has controllers: where v1 has them, v2 has
// none.
func has(own string, controllers ...string) bool {
	text, _ := os.ReadFile(filepath.Join(own, "cgroup.controllers"))
	there := strings.Fields(string(text))
	return !slices.ContainsFunc(controllers, func(c string) bool { return !slices.Contains(there, c) })
}

// hierarchies returns the bridge's own group in each: of v1 by controller, "memory" and
// "pids", and that of v2. A bridge that was started by what an earlier one has moved to its bridgeGroup
// has its groups beside it, as that one had. own is /proc/self/cgroup and mounts /proc/self/mountinfo (cgroups(7),
// proc_pid_mountinfo(5)).
func hierarchies(own, mounts []byte) (v1 map[string]string, v2 string) {
	v1 = map[string]string{}
	paths := map[string]string{} // by controller, "" for v2
	for line := range strings.Lines(string(own)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for c := range strings.SplitSeq(controllers, ",") {
			paths[c] = path
		}
	}
	for lines := bufio.NewScanner(bytes.NewReader(mounts)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		root, at := left[3], left[4]
		group := func(path string) string {
			rel, err := filepath.Rel(root, path)
			if err != nil || strings.HasPrefix(rel, "..") {
				rel = "."
			}
			return filepath.Join(at, rel)
		}
		switch right[0] {
		case "cgroup2":
			if path, ok := paths[""]; ok {
				v2 = strings.TrimSuffix(group(path), "/"+bridgeGroup)
			}
		case "cgroup":
			for c := range strings.SplitSeq(right[2], ",") {
				if path, ok := paths[c]; ok && (c == "memory" || c == "pids") {
					v1[c] = group(path)
				}
			}
		}
	}
	return v1, v2
}

// delegate gives the bridge's groups their controllers. In v2 a group that has
// processes of its own cannot give any (cgroups(7), no internal processes), so they
// move to one beside: again if one of them has started another meanwhile.
func delegate(own, at string) error {
	enable := func(group string) error {
		return os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte("+memory +pids"), 0o644)
	}
	err := enable(own)
	for n := 0; err != nil && n < 3; n++ {
		beside := filepath.Join(own, bridgeGroup)
		if err := os.Mkdir(beside, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, pid := range members(own) {
			if err := write(beside, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		err = enable(own)
	}
	if err != nil {
		return err
	}
	return enable(at)
}

func (c cgroups) make() error {
	for _, at := range c.at {
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// remove removes the bridge's groups, when all in them are gone.
func (c cgroups) remove() {
	for _, at := range c.at {
		_ = unix.Rmdir(at) // the next start tries again
	}
}

// sweep ends what bridges that are gone left below the group at own.
func sweep(own string) {
	all, _ := filepath.Glob(filepath.Join(own, groupName+"*"))
	for _, at := range all {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(at), groupName))
		if err != nil || pid == os.Getpid() || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue
		}
		left, _ := filepath.Glob(filepath.Join(at, "*/cgroup.procs"))
		for _, procs := range left {
			removeGroup(filepath.Dir(procs))
		}
		_ = unix.Rmdir(at)
	}
}

// removeGroup kills all in a group and removes it.
func removeGroup(at string) {
	for range 200 { // 2 s: the kernel takes a while to let the dead go
		for _, pid := range members(at) {
			_ = unix.Kill(pid, unix.SIGKILL) // gone already
		}
		if err := unix.Rmdir(at); err == nil || errors.Is(err, unix.ENOENT) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A group bounds one process and all that it starts. The nil group bounds nothing.
type group struct {
	v2 bool
	at map[string]string
}

// group makes one with its limits.
func (c cgroups) group(name string, memory int64) (*group, error) {
	if c.version == "" {
		return nil, nil
	}
	g := &group{c.version == "v2", map[string]string{}}
	for controller, at := range c.at {
		g.at[controller] = filepath.Join(at, name)
		if err := os.Mkdir(g.at[controller], 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	var errs []error
	set := func(controller, file, value string) {
		errs = append(errs, write(g.at[controller], file, value))
	}
	set("pids", "pids.max", strconv.Itoa(maxProcesses))
	if memory > 0 && g.v2 {
		set("memory", "memory.max", strconv.FormatInt(memory, 10))
		set("memory", "memory.oom.group", "1")
		_ = write(g.at["memory"], "memory.swap.max", "0") // not there without swap
	} else if memory > 0 {
		set("memory", "memory.limit_in_bytes", strconv.FormatInt(memory, 10))
		_ = write(g.at["memory"], "memory.memsw.limit_in_bytes", strconv.FormatInt(memory, 10)) // likewise
	}
	if err := errors.Join(errs...); err != nil {
		g.remove()
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return g, nil
}

func write(at, file, value string) error {
	return os.WriteFile(filepath.Join(at, file), []byte(value), 0o644)
}

// add puts a process into the group, before it starts others.
func (g *group) add(pid int) error {
	if g == nil {
		return nil
	}
	for _, at := range g.at {
		if err := write(at, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// number reads a file of a group: the number alone, or behind a name.
func (g *group) number(file, name string) (n int64) {
	if g == nil {
		return 0
	}
	text, _ := os.ReadFile(filepath.Join(g.at["memory"], file))
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); ok && err == nil {
			return n
		}
	}
	return 0
}

// peak is the most memory that the group had, in bytes.
func (g *group) peak() int64 {
	switch {
	case g == nil:
		return 0
	case !g.v2:
		return g.number("memory.max_usage_in_bytes", "")
	}
	// memory.peak came with Linux 5.19.
	return max(g.number("memory.peak", ""), g.number("memory.current", ""))
}

// outOfMemory says whether the kernel killed a process of the group for its memory.
func (g *group) outOfMemory() bool {
	if g == nil {
		return false
	}
	if g.v2 {
		return g.number("memory.events", "oom_kill ") > 0
	}
	return g.number("memory.oom_control", "oom_kill ") > 0
}

// members are the processes of the group at path.
func members(path string) (pids []int) {
	text, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	for line := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// signal sends a signal to all in the group.
func (g *group) signal(s unix.Signal) {
	if g == nil {
		return
	}
	if g.v2 && s == unix.SIGKILL && write(g.at["pids"], "cgroup.kill", "1") == nil {
		return
	}
	for _, pid := range members(g.at["pids"]) {
		_ = unix.Kill(pid, s) // gone already
	}
}

// freeze stops all in the group at once, or lets it go on. It says whether it
// can: v1's freezer is not used, since what it froze cannot be killed.
func (g *group) freeze(on bool) bool {
	if g == nil || !g.v2 {
		return false
	}
	return write(g.at["pids"], "cgroup.freeze", map[bool]string{true: "1", false: "0"}[on]) == nil
}

func (g *group) remove() {
	if g == nil {
		return
	}
	for _, at := range g.at {
		removeGroup(at)
	}
}
