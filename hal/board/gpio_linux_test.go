package board

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/hal"
)

// Sizes, offsets and numbers are those of the C header, asked of a compiler
// where there is one. The sizes also stand in the ioctl numbers.
func TestKernelLayout(t *testing.T) {
	for _, c := range []struct {
		op   uintptr
		size uintptr
	}{
		{ioctlChipInfo, unsafe.Sizeof(chipInfo{})},
		{ioctlLineInfo, unsafe.Sizeof(lineInfo{})},
		{ioctlLine, unsafe.Sizeof(lineRequest{})},
		{ioctlSetConfig, unsafe.Sizeof(lineConfig{})},
		{ioctlGetValues, unsafe.Sizeof(lineValues{})},
		{ioctlSetValues, unsafe.Sizeof(lineValues{})},
	} {
		if got := c.op >> 16 & 0x3fff; got != c.size {
			t.Errorf("ioctl %#x says %d bytes, the struct has %d", c.op, got, c.size)
		}
	}
	var r lineRequest
	var e lineEvent
	rows := []struct {
		c    string
		ours uint64
	}{
		{"GPIO_GET_CHIPINFO_IOCTL", ioctlChipInfo},
		{"GPIO_V2_GET_LINEINFO_IOCTL", ioctlLineInfo},
		{"GPIO_V2_LINE_FLAG_USED", flagUsed},
		{"offsetof(struct gpio_v2_line_info, offset)", uint64(unsafe.Offsetof(lineInfo{}.offset))},
		{"offsetof(struct gpio_v2_line_info, flags)", uint64(unsafe.Offsetof(lineInfo{}.flags))},
		{"GPIO_V2_GET_LINE_IOCTL", ioctlLine},
		{"GPIO_V2_LINE_SET_CONFIG_IOCTL", ioctlSetConfig},
		{"GPIO_V2_LINE_GET_VALUES_IOCTL", ioctlGetValues},
		{"GPIO_V2_LINE_SET_VALUES_IOCTL", ioctlSetValues},
		{"GPIO_V2_LINE_FLAG_INPUT", flagInput},
		{"GPIO_V2_LINE_FLAG_OUTPUT", flagOutput},
		{"GPIO_V2_LINE_FLAG_EDGE_RISING", flagRising},
		{"GPIO_V2_LINE_FLAG_EDGE_FALLING", flagFalling},
		{"GPIO_V2_LINE_FLAG_OPEN_DRAIN", flagDrain},
		{"GPIO_V2_LINE_FLAG_BIAS_PULL_UP", flagPullUp},
		{"GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN", flagPullDown},
		{"GPIO_V2_LINE_FLAG_BIAS_DISABLED", flagNoPull},
		{"GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES", attrOutputValues},
		{"sizeof(struct gpio_v2_line_config_attribute)", uint64(unsafe.Sizeof(lineAttr{}))},
		{"offsetof(struct gpio_v2_line_config_attribute, attr.values)",
			uint64(unsafe.Offsetof(r.config.attrs[0].value))},
		{"offsetof(struct gpio_v2_line_config_attribute, mask)", uint64(unsafe.Offsetof(r.config.attrs[0].mask))},
		{"offsetof(struct gpio_v2_line_config, num_attrs)", uint64(unsafe.Offsetof(r.config.numAttrs))},
		{"offsetof(struct gpio_v2_line_config, attrs)", uint64(unsafe.Offsetof(r.config.attrs))},
		{"offsetof(struct gpio_v2_line_request, consumer)", uint64(unsafe.Offsetof(r.consumer))},
		{"offsetof(struct gpio_v2_line_request, config)", uint64(unsafe.Offsetof(r.config))},
		{"offsetof(struct gpio_v2_line_request, num_lines)", uint64(unsafe.Offsetof(r.numLines))},
		{"offsetof(struct gpio_v2_line_request, event_buffer_size)", uint64(unsafe.Offsetof(r.eventSize))},
		{"offsetof(struct gpio_v2_line_request, fd)", uint64(unsafe.Offsetof(r.fd))},
		{"sizeof(struct gpio_v2_line_event)", uint64(unsafe.Sizeof(e))},
		{"GPIO_V2_LINE_EVENT_RISING_EDGE", eventRising},
		{"offsetof(struct gpio_v2_line_event, id)", uint64(unsafe.Offsetof(e.id))},
		{"offsetof(struct gpio_v2_line_event, line_seqno)", uint64(unsafe.Offsetof(e.lineSeqno))},
		{"offsetof(struct gpiochip_info, label)", uint64(unsafe.Offsetof(chipInfo{}.label))},
		{"GPIO_V2_LINES_MAX * 16", eventBuffer},
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler to ask")
	}
	var src strings.Builder
	src.WriteString("#include <stdio.h>\n#include <stddef.h>\n#include <linux/gpio.h>\nint main(void) {\n")
	for _, x := range rows {
		fmt.Fprintf(&src, "printf(\"%%llu\\n\", (unsigned long long)(%s));\n", x.c)
	}
	src.WriteString("return 0; }\n")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte(src.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-o", filepath.Join(dir, "a"),
		filepath.Join(dir, "a.c")).CombinedOutput(); err != nil {
		t.Skipf("no kernel headers to ask: %v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(dir, "a")).Output()
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Fields(string(out))
	for i, x := range rows {
		if said[i] != fmt.Sprint(x.ours) {
			t.Errorf("%s is %s, ours %d", x.c, said[i], x.ours)
		}
	}
}

// events returns a line whose events come from the pipe's other end.
func events(t *testing.T) (*line, *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(p[1]), "kernel")
	t.Cleanup(func() { w.Close() })
	l := &line{f: os.NewFile(uintptr(p[0]), "gpio"), done: make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	return l, w
}

func put(t *testing.T, w *os.File, seqno uint32) {
	t.Helper()
	putEvent(t, w, lineEvent{lineSeqno: seqno})
}

func putEvent(t *testing.T, w *os.File, e lineEvent) {
	t.Helper()
	if _, err := w.Write(unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e))); err != nil {
		t.Fatal(err)
	}
}

// Edges that the kernel had no room for are counted by the gap they leave.
func TestEvents(t *testing.T) {
	l, w := events(t)
	for _, seq := range []uint32{3, 4, 7} {
		put(t, w, seq)
	}
	for n := range 7 {
		if !l.WaitForEdge(time.Minute) {
			t.Fatalf("%d edges, want 7", n)
		}
	}
	if l.WaitForEdge(0) {
		t.Error("an edge from nowhere")
	}
}

// An edge has the kernel's time and the level after it, and says how many went
// unseen before.
func TestEdges(t *testing.T) {
	l, w := events(t)
	putEvent(t, w, lineEvent{lineSeqno: 1, id: eventRising, timestamp: 1_000_000_123})
	putEvent(t, w, lineEvent{lineSeqno: 4, id: 2, timestamp: 1_000_500_000})
	for _, want := range []hal.Edge{
		{High: true, At: time.Second + 123},
		{At: time.Second + 500*time.Microsecond, Lost: 2},
	} {
		if e, ok := l.NextEdge(time.Minute); !ok || e != want {
			t.Errorf("%+v, %v, want %+v", e, ok, want)
		}
	}
	if e, ok := l.NextEdge(0); ok {
		t.Errorf("an edge from nowhere: %+v", e)
	}
	if a, b := l.Now(), l.Now(); a <= 0 || b < a {
		t.Errorf("the clock says %v, then %v", a, b)
	}
}

func TestCloseEndsWait(t *testing.T) {
	l, _ := events(t)
	done := make(chan bool)
	go func() { done <- l.WaitForEdge(-1) }()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if <-done {
		t.Error("an edge from Close")
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := l.Read(); err == nil {
		t.Error("Read after Close")
	}
	if l.Set(true) == nil {
		t.Error("Set on an input")
	}
}

// Files that are no GPIO chips are named in the error.
func TestNoChips(t *testing.T) {
	b, _ := fake(t, "gpiochip0")
	if _, err := b.Input("x:1"); err == nil || !strings.Contains(err.Error(), "gpiochip0") {
		t.Errorf("a file that is no chip: %v", err)
	}
}

// controllers stand in for the kernel: what the device files are of.
func controllers(t *testing.T, files map[string]hal.LineChip) (b *Board, asked *lineRequest) {
	t.Helper()
	var names []string
	for f := range files {
		names = append(names, f)
	}
	b, _ = fake(t, names...)
	asked = &lineRequest{}
	real := ioctl
	t.Cleanup(func() { ioctl = real })
	ioctl = func(fd int, op uintptr, arg unsafe.Pointer) error {
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return err
		}
		c, ok := files[filepath.Base(path)]
		switch {
		case !ok:
			return unix.ENOTTY
		case op == ioctlChipInfo:
			info := (*chipInfo)(arg)
			copy(info.name[:], c.Name)
			copy(info.label[:], c.Label)
			info.lines = uint32(len(c.Lines))
		case op == ioctlLineInfo:
			info := (*lineInfo)(arg)
			copy(info.name[:], c.Lines[info.offset].Name)
			if user := c.Lines[info.offset].User; user != "" {
				info.flags |= flagUsed
				copy(info.consumer[:], user)
			}
		case op == ioctlLine:
			*asked = *(*lineRequest)(arg)
			copy(asked.consumer[:], c.Label+"\x00") // for the test to see
			return unix.EBUSY
		}
		return nil
	}
	return b, asked
}

func pins(n int, names map[int]string) []hal.Line {
	out := make([]hal.Line, n)
	for i, name := range names {
		out[i].Name = name
	}
	return out
}

// GPIO17 is the same pin of the header on every Raspberry Pi, by its name or, if
// the board's description has none, by the controller that is known.
func TestLineNames(t *testing.T) {
	header := func(label string, n int) hal.LineChip {
		c := hal.LineChip{Name: "gpiochip0", Label: label, Lines: make([]hal.Line, n)}
		for i := range 28 {
			c.Lines[i].Name = fmt.Sprintf("GPIO%d", i)
		}
		return c
	}
	expander := hal.LineChip{Name: "gpiochip1", Label: "raspberrypi-exp-gpio",
		Lines: pins(8, map[int]string{2: "PWR_LED_OFF"})}
	for _, c := range []struct {
		name  string
		files map[string]hal.LineChip
		line  string
		label string // "" for an error
		at    uint32
		err   string
	}{
		{"Pi 3", map[string]hal.LineChip{"gpiochip0": header("pinctrl-bcm2835", 54), "gpiochip1": expander}, "GPIO17",
			"pinctrl-bcm2835", 17, ""},
		{"Pi 4", map[string]hal.LineChip{"gpiochip0": header("pinctrl-bcm2711", 58), "gpiochip1": expander}, "GPIO17",
			"pinctrl-bcm2711", 17, ""},
		{"Pi 4 by chip", map[string]hal.LineChip{"gpiochip0": header("pinctrl-bcm2711", 58)}, "pinctrl-bcm2711:5",
			"pinctrl-bcm2711", 5, ""},
		{"Pi 5, whose header is one of several, with two files", map[string]hal.LineChip{
			"gpiochip0": {Name: "gpiochip0", Label: "gpio-brcmstb@107d508500",
				Lines: pins(32, map[int]string{3: "2712_G", 20: "GPIO_X"})},
			"gpiochip4": {Name: "gpiochip4", Label: "pinctrl-rp1", Lines: header("", 54).Lines},
			"gpiochip5": {Name: "gpiochip4", Label: "pinctrl-rp1", Lines: header("", 54).Lines}}, "GPIO17",
			"pinctrl-rp1", 17, ""},
		{"no names", map[string]hal.LineChip{"gpiochip0": {Name: "gpiochip0", Label: "pinctrl-rp1",
			Lines: make([]hal.Line, 54)}}, "GPIO9", "pinctrl-rp1", 9, ""},
		{"another name", map[string]hal.LineChip{"gpiochip0": header("pinctrl-bcm2711", 58), "gpiochip1": expander},
			"PWR_LED_OFF", "raspberrypi-exp-gpio", 2, ""},
		{"another board's own", map[string]hal.LineChip{"gpiochip0": {Name: "gpiochip0", Label: "soc",
			Lines: pins(40, map[int]string{33: "GPIO17"})}}, "GPIO17", "soc", 33, ""},
		{"beyond", map[string]hal.LineChip{"gpiochip0": {Name: "gpiochip0", Label: "pinctrl-rp1",
			Lines: make([]hal.Line, 54)}}, "GPIO54", "", 0, "no line has this name"},
		{"unknown board", map[string]hal.LineChip{"gpiochip0": {Name: "gpiochip0", Label: "soc",
			Lines: make([]hal.Line, 54)}}, "GPIO17", "", 0, "no line has this name"},
		{"twice", map[string]hal.LineChip{"gpiochip0": header("a", 40),
			"gpiochip1": {Name: "gpiochip1", Label: "b", Lines: header("", 30).Lines}},
			"GPIO17", "", 0, "a:17, b:17"},
		{"the chip of another board", map[string]hal.LineChip{"gpiochip0": header("pinctrl-bcm2711", 58)},
			"pinctrl-bcm2835:17", "", 0, "there are: pinctrl-bcm2711; a name such as GPIO17"},
		{"no chips", nil, "GPIO17", "", 0, "no line has this name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := func() int { fds, _ := os.ReadDir("/proc/self/fd"); return len(fds) }
			b, asked := controllers(t, c.files)
			before := open()
			_, err := b.Input(c.line)
			if after := open(); after != before {
				t.Errorf("%d files are left open", after-before)
			}
			if c.label == "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %s", err, c.err)
				}
				return
			}
			if !errors.Is(err, unix.EBUSY) || cString(asked.consumer[:]) != c.label || asked.offsets[0] != c.at {
				t.Errorf("asked %s for line %d: %v; want %s:%d", cString(asked.consumer[:]), asked.offsets[0], err,
					c.label, c.at)
			}
		})
	}
}

func TestLineChips(t *testing.T) {
	lines := pins(3, map[int]string{1: "GPIO1"})
	lines[2].User = "led0"
	want := []hal.LineChip{{Name: "gpiochip2", Label: "x", Lines: lines},
		{Name: "gpiochip10", Label: "y", Lines: pins(1, nil)}}
	b, _ := controllers(t, map[string]hal.LineChip{"gpiochip2": want[0], "gpiochip10": want[1]})
	got, err := b.LineChips()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	b, _ = fake(t, "gpiochip0") // no chip
	if got, err := b.LineChips(); len(got) != 0 || err == nil || !strings.Contains(err.Error(), "gpiochip0") {
		t.Errorf("%v, %v", got, err)
	}
}
