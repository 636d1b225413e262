package sensor

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestCPUTimes(t *testing.T) {
	for _, c := range []struct {
		in          string
		busy, total int64
		ok          bool
	}{
		{"cpu  18962 0 5794 579533 712 0 93 87 0 0\ncpu0 1\n", 18962 + 5794 + 93 + 87, 18962 + 5794 + 579533 + 712 +
			93 + 87, true},
		{"cpu 1 2 3 4\n", 6, 10, true},
		{"cpu 1 2 3 4", 6, 10, true},
		{"cpu 1 2 3\n", 0, 0, false},
		{"cpu0 1 2 3 4\n", 0, 0, false},
		{"cpu 1 2 -3 4\n", 0, 0, false},
		{"cpu 1 2 3 99999999999999999999\n", 0, 0, false},
		{"", 0, 0, false},
	} {
		busy, total, err := cpuTimes([]byte(c.in))
		if busy != c.busy && c.ok || total != c.total && c.ok || (err == nil) != c.ok {
			t.Errorf("%q: %d, %d, %v", c.in, busy, total, err)
		}
	}
}

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		in        string
		total, av int64
		ok        bool
	}{
		{"MemTotal: 100 kB\nMemAvailable:\t60 kB\n", 102400, 61440, true},
		{"MemTotal: 100 kB\nMemFree: 10 kB\nCached: 20 kB\n", 102400, 30720, true},
		{"MemTotal: 100 kB\nMemAvailable: 200 kB\n", 102400, 102400, true},
		{"MemFree: 10 kB\n", 0, 0, false},
		{"MemTotal: 100 MB\n", 0, 0, false},
		{"MemTotal: 100\n", 0, 0, false},
		{"", 0, 0, false},
	} {
		total, av, err := memory([]byte(c.in))
		if (err == nil) != c.ok || c.ok && (total != c.total || av != c.av) {
			t.Errorf("%q: %d, %d, %v", c.in, total, av, err)
		}
	}
}

func TestTraffic(t *testing.T) {
	const head = "Inter-|\n face |\n"
	row := func(name string, rx, tx string) string {
		return name + ": " + rx + " 1 2 3 4 5 6 7 " + tx + " 9 10 11 12 13 14 15\n"
	}
	for _, c := range []struct {
		in, name string
		rx, tx   int64
		found    bool
		ok       bool
	}{
		{head + row("  lo", "5", "5") + row("  eth0", "10", "20") + row("wlan0", "1", "2"), "", 11, 22, true, true},
		{head + row("  lo", "5", "6"), "lo", 5, 6, true, true},
		{head + row("  lo", "5", "6"), "", 0, 0, false, true},
		{head + row("eth0:1", "5", "6") + row("eth0", "7", "8"), "eth0", 7, 8, true, true},
		{head + row("eth0", "18446744073709551615", "6"), "eth0", math.MaxInt64, 6, true, true},
		{head + "eth0 5 6\n", "", 0, 0, false, false},
		{head + "eth0: 5 6\n", "", 0, 0, false, false},
		{"", "", 0, 0, false, true},
	} {
		rx, tx, found, err := traffic([]byte(c.in), c.name)
		if (err == nil) != c.ok || c.ok && (rx != c.rx || tx != c.tx || found != c.found) {
			t.Errorf("%q of %q: %d, %d, %v, %v", c.name, c.in, rx, tx, found, err)
		}
	}
}

// A file longer than the first buffer is read whole, one longer than allowed is
// cut, and a file that comes back after an error is read again.
func TestProcFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f := procFile{path: path, most: 3000}
	defer f.close()
	if _, err := f.read(); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
	for _, n := range []int{0, 1, 511, 512, 513, 2048, 3000, 5000, 10} {
		text := strings.Repeat("x", n)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		b, err := f.read()
		if err != nil || len(b) != min(n, 3000) {
			t.Errorf("%d bytes: got %d, %v", n, len(b), err)
		}
	}
}

// The number parsers accept the same texts as strconv, but for signs, spaces
// in numbers, exponents and sizes beyond ours, and give the same value.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"0", "7", "007", "9223372036854775807", "9223372036854775808", "18446744073709551615",
		"1.5", "0.42", "3031.43", ".5", "5.", "-1", "1e5", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := number([]byte(s))
		want, err := strconv.ParseInt(s, 10, 64)
		if plain := !strings.HasPrefix(s, "+") && !strings.HasPrefix(s, "-"); ok != (err == nil && plain) || ok &&
			n != want {
			t.Errorf("number(%q) = %d, %v; want %d, %v", s, n, ok, want, err)
		}
		if v, ok := decimal([]byte(s)); ok {
			want, err := strconv.ParseFloat(s, 64)
			if err != nil || math.Abs(v-want) > 1e-9*max(1, want) {
				t.Errorf("decimal(%q) = %v, want %v, %v", s, v, want, err)
			}
		}
		if v, err := milli([]byte(s)); err == nil {
			want, err := strconv.ParseFloat(strings.SplitN(s, "\n", 2)[0], 64)
			if err != nil || v != want/1000 {
				t.Errorf("milli(%q) = %v, want %v", s, v, want/1000)
			}
		}
	})
}

// What the parsers accept is within bounds, doesn't depend on what follows, and
// the input is left as it was.
func FuzzProc(f *testing.F) {
	for _, s := range []string{
		"cpu  18962 0 5794 579533 712 0 93 87 0 0\ncpu0 1\n",
		"MemTotal:       24684096 kB\nMemFree: 5 kB\nMemAvailable:   24283428 kB\n",
		"0.25 0.27 0.16 1/96 13735\n",
		"Inter-|\n face |\n    lo: 3193 29 0 0 0 0 0 0 3193 29 0 0 0 0 0 0\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
		"Inter-|\n face |\neth0:1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
	} {
		f.Add([]byte(s))
	}
	for _, name := range []string{"stat", "meminfo", "loadavg", "uptime", "net/dev"} {
		if b, err := os.ReadFile("/proc/" + name); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		kept := bytes.Clone(in)
		if busy, total, err := cpuTimes(in); err == nil && (busy < 0 || busy > total) {
			t.Errorf("busy %d of %d ticks", busy, total)
		}
		total, available, err := memory(in)
		if err == nil && (total < 0 || available < 0 || available > total) {
			t.Errorf("%d of %d bytes available", available, total)
		}
		if again, _, err2 := memory(append(bytes.Clone(in), "\nHugePages: x\n"...)); err == nil &&
			(err2 != nil || again != total) {
			t.Errorf("another line changed %d to %d, %v", total, again, err2)
		}
		for _, v := range []func([]byte) (float64, error){load1, uptime} {
			if x, err := v(in); err == nil && !(x >= 0 && x < 1e18) {
				t.Errorf("%v from %.40q", x, in)
			}
		}
		rx, tx, found, err := traffic(in, "")
		if err == nil && (rx < 0 || tx < 0 || !found && rx|tx != 0) {
			t.Errorf("rx %d tx %d found %v", rx, tx, found)
		}
		if err == nil {
			// One interface more adds its own bytes.
			more := fmt.Appendf(bytes.Clone(in), "\nzz9: 3 0 0 0 0 0 0 0 4 0 0 0 0 0 0 0\n")
			if r2, t2, _, err := traffic(more, ""); bytes.Count(in, []byte("\n")) >= 2 &&
				(err != nil || r2 != (rx+3)&math.MaxInt64 || t2 != (tx+4)&math.MaxInt64) {
				t.Errorf("rx %d to %d, tx %d to %d, %v", rx, r2, tx, t2, err)
			}
		}
		if !bytes.Equal(in, kept) {
			t.Error("the input was changed")
		}
	})
}
