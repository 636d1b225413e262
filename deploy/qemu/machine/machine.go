package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/deploy/qemu/boot"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
	"github.com/tidemill/tidemill/deploy/rig"
)

// Names in a machine's folder.
const (
	Initramfs  = "device.cpio.gz"
	ConsoleLog = "console.log" // of all power-ons, the newest last

	kernelFile    = "kernel"
	treeFile      = "board.dtb"
	cardFile      = "card.img"
	logFile       = "qemu.log"
	qmpSocket     = "qmp.sock"
	qtestSocket   = "qtest.sock"
	consoleSocket = "console.sock"
)

// A Machine is one simulated device in a folder of its own. Its methods may be
// called from several goroutines.
type Machine struct {
	Board Board
	Dir   string

	process rig.Process

	mu     sync.Mutex // guards seen, and is held over what turns a knob
	seen   int64      // bytes of the console's log before this power-on
	number int        // of the last command on the console
}

// A Software is what a machine runs.
type Software struct {
	Init, Agent string // programs for the board
	Clock       bool   // the kernel is told of the RTC; else it starts in 1970
}

// Fetch has the board's parts in the store.
func Fetch(ctx context.Context, store *parts.Store, board Board) error {
	if _, err := store.Emulator(ctx, board.emulator); err != nil {
		return err
	}
	_, err := store.Get(ctx, board.kernel, false)
	return err
}

// New makes a machine in a folder: its parts, which may have to be fetched, and its
// initramfs. The card is made by Card, the power comes with On.
func New(ctx context.Context, store *parts.Store, board Board, dir string, soft Software) (*Machine, error) {
	emulator, err := store.Emulator(ctx, board.emulator)
	if err != nil {
		return nil, err
	}
	kernel, err := store.Get(ctx, board.kernel, false)
	if err != nil {
		return nil, err
	}
	f, err := board.find(kernel)
	if err != nil {
		return nil, err
	}
	m := &Machine{Board: board, Dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := m.place(f); err != nil {
		return nil, err
	}
	if err := m.initramfs(f.modules, soft); err != nil {
		return nil, err
	}
	m.process = rig.Process{Path: emulator.Program, Env: emulator.Env, LogFile: m.path(logFile),
		Args: append(emulator.Args, m.arguments(soft)...)}
	return m, nil
}

func (m *Machine) path(name string) string { return filepath.Join(m.Dir, name) }

// place puts kernel and device tree into the folder: the parts may be replaced
// while it runs.
func (m *Machine) place(f files) error {
	tree, err := os.ReadFile(f.tree)
	if err != nil {
		return err
	}
	if m.Board.disable != "" {
		if tree, err = boot.Disable(tree, m.Board.disable); err != nil {
			return err
		}
	}
	err = os.Remove(m.path(kernelFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.Symlink(f.kernel, m.path(kernelFile)), os.WriteFile(m.path(treeFile), tree, 0o600))
}

func (m *Machine) initramfs(modules []boot.Module, soft Software) error {
	all := []boot.File{
		{Name: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Name: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
	}
	for i, k := range modules {
		text, err := os.ReadFile(k.Path)
		if err != nil {
			return err
		}
		all = append(all, boot.File{Name: fmt.Sprintf("modules/%02d-%s.ko", i, k.Name), Mode: 0o644, Data: text})
	}
	for name, path := range map[string]string{"init": soft.Init, "bin/tidemill-agent": soft.Agent} {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = append(all, boot.File{Name: name, Mode: 0o755, Data: text})
	}
	f, err := os.Create(m.path(Initramfs))
	if err != nil {
		return err
	}
	return errors.Join(boot.WriteInitramfs(f, all), f.Close())
}

// arguments are QEMU's. One thread for all of the guest's processors: those that
// idle spin until Linux starts them, and would take the host's from it.
func (m *Machine) arguments(soft Software) []string {
	kernelLine := "quiet panic=5 console=" + m.Board.console + ",115200"
	if !soft.Clock {
		kernelLine += " tidemill.rtc=no"
	}
	args := []string{"-M", m.Board.Name, "-accel", "tcg,thread=single", "-nodefaults", "-display", "none",
		"-no-reboot", "-kernel", m.path(kernelFile), "-dtb", m.path(treeFile), "-initrd", m.path(Initramfs),
		"-append", kernelLine, "-drive", "file=" + m.path(cardFile) + ",if=sd,format=raw",
		"-qmp", "unix:" + m.path(qmpSocket) + ",server=on,wait=off",
		"-qtest", "unix:" + m.path(qtestSocket) + ",server=on,wait=off", "-qtest-log", "none",
		"-netdev", "user,id=" + netName, "-device", "usb-net,netdev=" + netName,
		"-chardev", "socket,id=console,path=" + m.path(consoleSocket) + ",server=on,wait=off,logfile=" +
			m.path(ConsoleLog) + ",logappend=on"}
	if m.Board.icount {
		args = append(args, "-icount", "shift=auto")
	}
	for range m.Board.ports {
		args = append(args, "-serial", "null")
	}
	// Without the second port the kernel of raspi0 says nothing and stops.
	args = append(args, "-serial", "chardev:console", "-serial", "null")
	for _, chip := range Chips {
		args = append(args, "-device", fmt.Sprintf("%s,id=%s,bus=i2c-bus.1,address=%#x", chip.Model, chip.Name,
			chip.Address))
	}
	return args
}

// A Chip is one on the bus /dev/i2c-1 of every machine.
type Chip struct {
	Name    string // as SetTemperature takes it
	Model   string // QEMU's
	Address uint16
}

// Chips are on the bus /dev/i2c-1 of every machine. The EEPROM has no content. The
// dps310 has no product id and never measures: it always has the same air.
var Chips = []Chip{{"tmp105", "tmp105", 0x49}, {"dps310", "dps310", 0x76}, {"rtc", "ds1338", 0x68},
	{"eeprom", "at24c-eeprom,rom-size=4096", 0x50}}

// Card makes the machine's card with the files of a folder.
func (m *Machine) Card(ctx context.Context, from string) error {
	return boot.MakeCard(ctx, m.path(cardFile), from)
}

// On switches the power on.
func (m *Machine) On() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = 0
	if info, err := os.Stat(m.path(ConsoleLog)); err == nil {
		m.seen = info.Size()
	}
	return m.process.Start()
}

// PowerCut ends the machine at once: QEMU is killed. Its memory is lost, and what its
// kernel had not written to the card.
func (m *Machine) PowerCut() { m.process.Kill() }

// Off asks the device to end, and cuts the power after limit.
func (m *Machine) Off(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer m.PowerCut()
	if ended, _ := m.process.Exited(); ended {
		return nil
	}
	if _, err := m.Run(ctx, "poweroff"); err != nil {
		return err
	}
	return rig.Until(ctx, "the end of the device", func() (bool, error) {
		ended, _ := m.process.Exited()
		return ended, nil
	})
}

// Ended says whether QEMU has, and how.
func (m *Machine) Ended() (bool, error) { return m.process.Exited() }

// PID is QEMU's process id, 0 if it does not run.
func (m *Machine) PID() int { return m.process.PID() }

// Ready is what /init prints, when the device takes commands.
const Ready = ": ready"

// Console returns what was printed since the power came, but for answers to commands.
func (m *Machine) Console() (string, error) {
	m.mu.Lock()
	seen := m.seen
	m.mu.Unlock()
	text, err := os.ReadFile(m.path(ConsoleLog))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(string(text[min(int(seen), len(text)):])) {
		if !strings.HasPrefix(line, "@") {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// Line waits for a line on the console that has text in it, and returns the line.
func (m *Machine) Line(ctx context.Context, text string) (line string, err error) {
	err = rig.Until(ctx, fmt.Sprintf("%q on the console", text), func() (bool, error) {
		all, err := m.Console()
		if err != nil {
			return false, err
		}
		for l := range strings.Lines(all) {
			if strings.HasSuffix(l, "\n") && strings.Contains(l, text) {
				line = strings.TrimSpace(l)
				return true, nil
			}
		}
		if ended, err := m.process.Exited(); ended {
			return false, fmt.Errorf("QEMU ended: %w", errors.Join(err, errors.New(m.lastWords())))
		}
		return false, errors.New(m.lastWords())
	})
	return line, err
}

// lastWords are the ends of the console and of what QEMU said.
func (m *Machine) lastWords() string {
	console, _ := m.Console()
	log, _ := os.ReadFile(m.path(logFile))
	return string(log[max(0, len(log)-1000):]) + console[max(0, len(console)-2000):]
}
