package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// peer answers on one of QEMU's sockets: greeting, then to each line what answer says.
func peer(t *testing.T, dir, socket, greeting string, answer func(line string) string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, socket))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, greeting)
			for r := bufio.NewReader(c); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					break
				}
				fmt.Fprint(c, answer(strings.TrimSpace(line)))
			}
			c.Close()
		}
	}()
}

// TestKnobs shows what is asked of QEMU, and that its refusals come back. The guests of
// deploy/qemu's own test show that QEMU does it.
func TestKnobs(t *testing.T) {
	m := &Machine{Board: Boards[0], Dir: t.TempDir()}
	var asked []string
	peer(t, m.Dir, qmpSocket, `{"QMP": {"version": {}, "capabilities": []}}`+"\n", func(line string) string {
		if strings.Contains(line, "qmp_capabilities") {
			return `{"return": {}}` + "\n"
		}
		asked = append(asked, line)
		if strings.Contains(line, "peripheral/none") {
			return `{"error": {"class": "DeviceNotFound", "desc": "no such chip"}}` + "\n"
		}
		return `{"event": "RESUME"}` + "\n" + `{"return": {}}` + "\n"
	})
	levels := uint32(0)
	peer(t, m.Dir, qtestSocket, "", func(line string) string {
		var address uint64
		var mask uint32
		if n, _ := fmt.Sscanf(line, "writel %v %v", &address, &mask); n == 2 {
			switch address {
			case 0x3f20001c:
				levels |= mask
			case 0x3f200028:
				levels &^= mask
			}
			return "OK\n"
		}
		if line != "readl 0x3f200034" {
			return "FAIL Unknown command\n"
		}
		return fmt.Sprintf("OK 0x%016x\n", levels)
	})
	ctx := context.Background()
	for _, err := range []error{m.SetTemperature(ctx, "tmp105", -12.5), m.SetLink(ctx, false),
		m.SetInput(ctx, 17, true), m.SetInput(ctx, 31, true), m.SetInput(ctx, 31, false)} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := m.SetTemperature(ctx, "none", 1); err == nil || !strings.Contains(err.Error(), "no such chip") {
		t.Errorf("a chip that is not there: %v", err)
	}
	for _, want := range []string{`"value":-12500`, `"up":false`} {
		if !strings.Contains(strings.Join(asked, "\n"), want) {
			t.Errorf("no %s in %q", want, asked)
		}
	}
	for line, want := range map[int]bool{17: true, 31: false} {
		if got, err := m.Level(ctx, line); got != want || err != nil {
			t.Errorf("line %d is %v, %v", line, got, err)
		}
	}
	if _, err := m.Level(ctx, 32); err == nil {
		t.Error("line 32 was read")
	}
	gone := &Machine{Board: Boards[0], Dir: t.TempDir()}
	var op *net.OpError
	if err := gone.SetLink(ctx, true); !errors.As(err, &op) {
		t.Errorf("a machine that is off: %v", err)
	}
}

func TestBoards(t *testing.T) {
	for _, b := range Boards {
		if got, err := Find(b.Name); err != nil || got.Name != b.Name {
			t.Errorf("%s: %v", b.Name, err)
		}
	}
	if _, err := Find("raspi9"); err == nil {
		t.Error("raspi9 was found")
	}
}
