package sandbox

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/deploy/await"
)

func TestHierarchies(t *testing.T) {
	v1, v2 := hierarchies([]byte("8:pids:/\n4:cpu,memory:/a/b\n0::/u\n"), []byte(
		"30 25 0:26 / /cg/pids rw - cgroup cgroup rw,pids\n31 25 0:27 /a /cg/mem rw - cgroup cgroup rw,cpu,memory\n"+
			"32 25 0:28 / /cg/unified rw - cgroup2 none rw\nnonsense\n"))
	if v1["pids"] != "/cg/pids" || v1["memory"] != "/cg/mem/b" || v2 != "/cg/unified/u" {
		t.Error(v1, v2)
	}
}

// tree writes files below a folder that stands for "/". A content that ends in "/" makes a folder of that
// name, "-> x" a link to x.
func tree(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		at, content := filepath.Join(root, name), files[name]
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		to, link := strings.CutPrefix(content, "-> ")
		switch {
		case err != nil:
		case link:
			err = os.Symlink(to, at)
		case content == "/":
			err = os.Mkdir(at, 0o755)
		default:
			err = os.WriteFile(at, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The mounts of machines: mountinfo has the root of a mount and where it is.
const (
	mountsV1 = "33 24 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"34 24 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	mountsV2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	mountsHybrid = mountsV1 + "35 24 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	// inContainer is v2 as a container without a namespace of its own for groups sees it.
	inContainer = "30 23 0:26 /docker/c1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
)

// procs of the hierarchies, with the bridge in the unit b of systemd.
const (
	procV1     = "9:pids:/b\n8:memory:/b\n1:name=systemd:/b\n"
	procV2     = "0::/b\n"
	procHybrid = procV1 + procV2
)

// Groups are made where the bridge may write, v1 first, since there v2 has no memory to bound. All files are made
// beforehand, as the kernel does, but for those of the groups that the bridge makes.
func TestOpenCgroups(t *testing.T) {
	mine := groupName + strconv.Itoa(os.Getpid())
	const memory, pids, b = "sys/fs/cgroup/memory/b/", "sys/fs/cgroup/pids/b/", "sys/fs/cgroup/b/"
	for name, c := range map[string]struct {
		own, mounts string
		files       map[string]string
		version     string
		memory      string            // where its groups are; pids of v2 are there, too
		left        map[string]string // files as they are then; "" is not there
	}{
		"v1": {procV1, mountsV1, map[string]string{memory + "x": "", pids + "x": ""}, "v1", memory + mine, nil},
		"v1, pids not writable": {procV1, mountsV1, map[string]string{memory + "x": "", "sys/fs/cgroup/pids/b": ""}, "", "",
			map[string]string{memory + mine: ""}},
		"v1 without pids": {procV1, strings.SplitAfter(mountsV1, "\n")[0], map[string]string{memory + "x": ""}, "",
			"", nil},
		"v2": {procV2, mountsV2, map[string]string{b + "cgroup.controllers": "cpu memory pids\n",
			b + "cgroup.subtree_control": ""}, "v2", b + mine, map[string]string{b + "cgroup.subtree_control": "+memory +pids",
			b + mine + "/cgroup.subtree_control": "+memory +pids", b + bridgeGroup: ""}},
		// Before there is the group beside, nothing can be written: like the kernel as long as b has processes.
		"v2, has processes": {procV2, mountsV2, map[string]string{b + "cgroup.controllers": "memory pids\n",
			b + "cgroup.subtree_control": "-> " + bridgeGroup + "/enabled", b + "cgroup.procs": "4242\n"}, "v2",
			b + mine, map[string]string{b + bridgeGroup + "/cgroup.procs": "4242",
				b + bridgeGroup + "/enabled": "+memory +pids"}},
		"v2, controllers refused": {procV2, mountsV2, map[string]string{b + "cgroup.controllers": "memory pids\n",
			b + "cgroup.subtree_control": "/"}, "", "", map[string]string{b + mine: ""}},
		"v2, memory is not the bridge's": {procV2, mountsV2, map[string]string{b + "cgroup.controllers": "cpu pids\n",
			b + "cgroup.subtree_control": "", b + "cgroup.procs": "4242\n"}, "", "",
			map[string]string{b + mine: "", b + bridgeGroup: "", b + "cgroup.subtree_control": ""}},
		"v2, started by a shell that an earlier bridge moved": {"0::/b/" + bridgeGroup + "\n", mountsV2,
			map[string]string{b + "cgroup.controllers": "memory pids\n", b + "cgroup.subtree_control": "",
				b + bridgeGroup + "/x": ""}, "v2", b + mine, nil},
		"v2 in a container": {"0::/docker/c1\n", inContainer, map[string]string{
			"sys/fs/cgroup/cgroup.controllers": "memory pids", "sys/fs/cgroup/cgroup.subtree_control": ""}, "v2",
			"sys/fs/cgroup/" + mine, nil},
		"hybrid": {procHybrid, mountsHybrid, map[string]string{memory + "x": "", pids + "x": "",
			"sys/fs/cgroup/unified/b/cgroup.controllers": ""}, "v1", memory + mine, nil},
		"hybrid, v1 not writable": {procHybrid, mountsHybrid, map[string]string{
			"sys/fs/cgroup/unified/b/cgroup.controllers": ""}, "", "", nil},
		"hybrid, v2 has them": {procHybrid, mountsHybrid, map[string]string{
			"sys/fs/cgroup/unified/b/cgroup.controllers":     "memory pids",
			"sys/fs/cgroup/unified/b/cgroup.subtree_control": ""}, "v2", "sys/fs/cgroup/unified/b/" + mine, nil},
		"nothing mounted":  {procHybrid, "", nil, "", "", nil},
		"nothing writable": {procV2, mountsV2, map[string]string{"sys/fs/cgroup/b": ""}, "", "", nil},
		"damaged":          {"x\n::\n", "- - -\n x - cgroup2\n", nil, "", "", nil},
		"leftovers of v2": {procV2, mountsV2, map[string]string{b + "cgroup.controllers": "memory pids",
			b + "cgroup.subtree_control": "", b + groupName + "999999999": "/", b + groupName + "1": "/",
			b + groupName + "x": "/"}, "v2", b + mine, map[string]string{b + groupName + "999999999": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"proc/self/cgroup": c.own, "proc/self/mountinfo": c.mounts}
			maps.Copy(files, c.files)
			root := tree(t, files)
			got := openCgroups(root)
			want := ""
			if c.memory != "" {
				want = filepath.Join(root, c.memory)
			}
			if got.version != c.version || got.at["memory"] != want || c.version == "v2" && got.at["pids"] != want {
				t.Errorf("%+v, want %s in %s", got, c.version, want)
			}
			for name, want := range c.left {
				text, err := os.ReadFile(filepath.Join(root, name))
				if _, there := os.Lstat(filepath.Join(root, name)); want == "" && len(text) > 0 ||
					want == "" && there == nil && err != nil || want != "" && string(text) != want {
					t.Errorf("%s: %s, %v, want %q", name, text, there, want)
				}
			}
			if name == "leftovers of v2" { // of a process that lives, and of nobody
				for _, kept := range []string{"1", "x"} {
					if _, err := os.Stat(filepath.Join(root, b+groupName+kept)); err != nil {
						t.Error(err)
					}
				}
			}
			if t.Failed() {
				return
			}
			for controller, at := range got.at {
				if info, err := os.Stat(at); err != nil || !info.IsDir() {
					t.Error(controller, err)
				}
			}
		})
	}
	if c := openCgroups(t.TempDir()); c.version != "" {
		t.Errorf("without /proc: %+v", c)
	}
}

// A group's limits are written under the names of its version, and read back.
func TestGroupFiles(t *testing.T) {
	for version, c := range map[string]struct{ limits, events map[string]string }{
		"v1": {map[string]string{"memory.limit_in_bytes": "1000", "memory.memsw.limit_in_bytes": "1000"},
			map[string]string{"memory.max_usage_in_bytes": "77\n", "memory.oom_control": "under_oom 0\noom_kill 1\n"}},
		"v2": {map[string]string{"memory.max": "1000", "memory.oom.group": "1", "memory.swap.max": "0"},
			map[string]string{"memory.current": "60\n", "memory.peak": "77\n",
				"memory.events": "oom 1\noom_group_kill 0\noom_kill 1\n"}},
	} {
		t.Run(version, func(t *testing.T) {
			at := map[string]string{"memory": t.TempDir(), "pids": t.TempDir()}
			g, err := cgroups{version, at}.group("p", 1000)
			if err != nil {
				t.Fatal(err)
			}
			if g.outOfMemory() || g.peak() != 0 {
				t.Error("no file says so")
			}
			if err := g.add(4242); err != nil {
				t.Error(err)
			}
			c.limits["cgroup.procs"] = "4242"
			for name, want := range c.limits {
				if text, err := os.ReadFile(filepath.Join(at["memory"], "p", name)); string(text) != want {
					t.Errorf("%s: %q, %v, want %s", name, text, err, want)
				}
			}
			if text, err := os.ReadFile(filepath.Join(at["pids"], "p/pids.max")); string(text) != "1024" {
				t.Errorf("pids.max: %s, %v", text, err)
			}
			for name, text := range c.events {
				if err := write(filepath.Join(at["memory"], "p"), name, text); err != nil {
					t.Fatal(err)
				}
			}
			if !g.outOfMemory() || g.peak() != 77 {
				t.Errorf("out of memory %v, at most %d bytes", g.outOfMemory(), g.peak())
			}
			if g.freeze(true) != (version == "v2") {
				t.Error("freeze")
			}
		})
	}
	at := filepath.Join(t.TempDir(), "gone")
	if g, err := (cgroups{"v2", map[string]string{"memory": at, "pids": at}}).group("p", 1); err == nil || g != nil {
		t.Error("a group below nothing")
	}
	g, err := (cgroups{}).group("p", 1)
	if g != nil || err != nil || g.freeze(true) || g.peak() != 0 || g.outOfMemory() {
		t.Error("no groups bound nothing")
	}
}

// v2 of the kernel itself freezes and kills what is in a group, and the group goes. Its controllers are not
// needed for that, so it is tried beside v1, too.
func TestKernelGroup(t *testing.T) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	_, v2 := hierarchies(own, mounts)
	at := filepath.Join(v2, "tidemill-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(at, 0o755); v2 == "" || err != nil {
		t.Skip("no cgroup v2 that may be written:", err)
	}
	g := &group{v2: true, at: map[string]string{"pids": at}}
	t.Cleanup(g.remove)
	cmd := exec.Command("sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := g.add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if got := members(at); !slices.Equal(got, []int{cmd.Process.Pid}) {
		t.Errorf("members %v", got)
	}
	for _, on := range []bool{true, false, true} {
		if !g.freeze(on) {
			t.Fatal("it does not freeze")
		}
		want := map[bool]string{true: "frozen 1", false: "frozen 0"}[on]
		await.True(t, want, func() bool {
			text, _ := os.ReadFile(filepath.Join(at, "cgroup.events"))
			return strings.Contains(string(text), want)
		})
	}
	g.signal(unix.SIGKILL) // frozen as it is
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
	g.remove()
	if _, err := os.Stat(at); !os.IsNotExist(err) {
		t.Error(err)
	}
}
