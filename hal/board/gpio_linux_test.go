package board

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes, offsets and numbers are those of the C header, asked of a compiler
// where there is one. The sizes also stand in the ioctl numbers.
func TestKernelLayout(t *testing.T) {
	for _, c := range []struct {
		op   uintptr
		size uintptr
	}{
		{ioctlChipInfo, unsafe.Sizeof(chipInfo{})},
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
		{"GPIO_V2_GET_LINE_IOCTL", ioctlLine},
		{"GPIO_V2_LINE_SET_CONFIG_IOCTL", ioctlSetConfig},
		{"GPIO_V2_LINE_GET_VALUES_IOCTL", ioctlGetValues},
		{"GPIO_V2_LINE_SET_VALUES_IOCTL", ioctlSetValues},
		{"GPIO_V2_LINE_FLAG_INPUT", flagInput},
		{"GPIO_V2_LINE_FLAG_OUTPUT", flagOutput},
		{"GPIO_V2_LINE_FLAG_EDGE_RISING", flagRising},
		{"GPIO_V2_LINE_FLAG_EDGE_FALLING", flagFalling},
		{"GPIO_V2_LINE_FLAG_BIAS_PULL_UP", flagPullUp},
		{"GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN", flagPullDown},
		{"GPIO_V2_LINE_FLAG_BIAS_DISABLED", flagNoPull},
		{"GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES", attrOutputValues},
		{"sizeof(struct gpio_v2_line_config_attribute)", uint64(unsafe.Sizeof(lineAttr{}))},
		{"offsetof(struct gpio_v2_line_config_attribute, attr.values)", uint64(unsafe.Offsetof(r.config.attrs[0].value))},
		{"offsetof(struct gpio_v2_line_config_attribute, mask)", uint64(unsafe.Offsetof(r.config.attrs[0].mask))},
		{"offsetof(struct gpio_v2_line_config, num_attrs)", uint64(unsafe.Offsetof(r.config.numAttrs))},
		{"offsetof(struct gpio_v2_line_config, attrs)", uint64(unsafe.Offsetof(r.config.attrs))},
		{"offsetof(struct gpio_v2_line_request, consumer)", uint64(unsafe.Offsetof(r.consumer))},
		{"offsetof(struct gpio_v2_line_request, config)", uint64(unsafe.Offsetof(r.config))},
		{"offsetof(struct gpio_v2_line_request, num_lines)", uint64(unsafe.Offsetof(r.numLines))},
		{"offsetof(struct gpio_v2_line_request, event_buffer_size)", uint64(unsafe.Offsetof(r.eventSize))},
		{"offsetof(struct gpio_v2_line_request, fd)", uint64(unsafe.Offsetof(r.fd))},
		{"sizeof(struct gpio_v2_line_event)", uint64(unsafe.Sizeof(e))},
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
	if out, err := exec.Command(cc, "-o", filepath.Join(dir, "a"), filepath.Join(dir, "a.c")).CombinedOutput(); err != nil {
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
	e := lineEvent{lineSeqno: seqno}
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
